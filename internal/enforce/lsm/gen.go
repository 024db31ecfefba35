// SPDX-License-Identifier: Apache-2.0

package lsm

//go:generate go tool bpf2go -target amd64,arm64 -no-global-types -output-stem lsm_bpf lsm lsm.bpf.c
//go:generate go tool bpf2go -target amd64,arm64 -no-global-types -output-stem modret_bpf modret modret.bpf.c
