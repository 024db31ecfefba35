// SPDX-License-Identifier: Apache-2.0

package privilege

//go:generate go tool bpf2go -target amd64,arm64 -no-global-types -type vg_header -type vg_cred -type vg_ns -type vg_credential -type vg_namespace -type vg_ptrace -type vg_module -type vg_bpf -type vg_mount -type vg_capability -type vg_fold_key -type vg_fold_count -output-stem bpf bpf privilege.bpf.c
