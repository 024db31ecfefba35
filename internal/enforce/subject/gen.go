// SPDX-License-Identifier: Apache-2.0

package subject

//go:generate go tool bpf2go -target amd64,arm64 -no-global-types -type vg_header -type vg_cgroup_ref -type vg_table -type vg_subject -type vg_verdict -type vg_policies -type vg_hit_key -type vg_inode_key -type vg_cgroup_policies -type vg_unit -type vg_hook -output-stem bpf bpf subject.bpf.c
