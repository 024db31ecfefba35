// SPDX-License-Identifier: Apache-2.0

package l7

//go:generate go tool bpf2go -target amd64,arm64 -no-global-types -type vg_header -type vg_cgroup_ref -type vg_l7 -type vg_l7_conn -type l7_file -type vg_l7_mode -type vg_l7_source -output-stem bpf bpf l7.bpf.c
