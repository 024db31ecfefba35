// SPDX-License-Identifier: Apache-2.0

package exec

//go:generate go tool bpf2go -target amd64,arm64 -no-global-types -type vg_header -type vg_image -type vg_cgroup_ref -type vg_cred -type vg_ns -type vg_exec -type vg_fork -type vg_exit -type vg_exec_failed -type vg_cgroup_change -output-stem bpf bpf exec.bpf.c
