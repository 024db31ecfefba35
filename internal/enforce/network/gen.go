// SPDX-License-Identifier: Apache-2.0

package network

//go:generate go tool bpf2go -target amd64,arm64 -no-global-types -type vg_net_prefix_key -type vg_net_port_key -type vg_net_name_key -type vg_net_places -type vg_net_peer_key -type vg_net_classes -type vg_net_lesson -type vg_net_cut -output-stem bpf bpf network.bpf.c
//go:generate go tool bpf2go -target amd64,arm64 -no-global-types -output-stem destroy destroy destroy.bpf.c
