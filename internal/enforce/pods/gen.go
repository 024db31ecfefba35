// SPDX-License-Identifier: Apache-2.0

package pods

//go:generate go tool bpf2go -target amd64,arm64 -no-global-types -type vg_np_force -type vg_np_kind -type vg_np_pod -type vg_np_addr -type vg_np_table -type vg_np_class_key -type vg_np_block_key -type vg_np_port_key -type vg_np_name_key -type vg_np_places -type vg_np_service_key -type vg_np_service -type vg_np_backend_key -type vg_np_backend -type vg_np_verdict -type vg_np_hook -type vg_np_hit_key -type vg_np_count -output-stem bpf bpf pods.bpf.c
//go:generate go tool bpf2go -target amd64,arm64 -no-global-types -output-stem forward forward forward.bpf.c
