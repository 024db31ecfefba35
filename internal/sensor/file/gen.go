// SPDX-License-Identifier: Apache-2.0

package file

//go:generate go tool bpf2go -target amd64,arm64 -no-global-types -type vg_header -type vg_file -type vg_fold_key -type vg_call -type vg_file_op -output-stem bpf bpf file.bpf.c
