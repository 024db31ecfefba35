// SPDX-License-Identifier: Apache-2.0

package tracing

// The compiler, the strip tool and the include paths come from the environment: `make generate`.
//go:generate go run ./gensyscalls
//go:generate go tool bpf2go -target amd64,arm64 -no-global-types -type vg_header -type vg_probe -type vg_probe_slot -type vg_probe_sock -type vg_probe_scratch -type vg_pattern -type vg_text_key -type vg_image -type vg_cred -type vg_cgroup_ref -type vg_slot_kind -output-stem bpf bpf tracing.bpf.c
