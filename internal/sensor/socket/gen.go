// SPDX-License-Identifier: Apache-2.0

package socket

//go:generate go tool bpf2go -target amd64,arm64 -no-global-types -type vg_header -type vg_conn -type vg_closed -type vg_unix -type vg_talk_key -type vg_talk -type vg_asked_addr -type vg_path -type vg_direction -type vg_protocol -output-stem bpf bpf socket.bpf.c
//go:generate go tool bpf2go -target amd64,arm64 -no-global-types -output-stem translate translate translate.bpf.c
