// SPDX-License-Identifier: Apache-2.0

package dns

//go:generate go tool bpf2go -target amd64,arm64 -no-global-types -type vg_header -type vg_dns -output-stem bpf bpf dns.bpf.c
