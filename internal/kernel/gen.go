// SPDX-License-Identifier: Apache-2.0

package kernel

// The compiler, the strip tool and the include paths come from the environment: `make generate`.
//go:generate go tool bpf2go -target amd64,arm64 -no-global-types -type vg_header -type vg_image -type vg_cgroup_ref -type vg_cred -type vg_ns -type vg_agent -type vg_type -type vg_lost -output-stem bpf bpf syscalls.bpf.c
