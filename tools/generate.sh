#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# Regenerates what is generated in a tree: Go and objects from the BPF C, Go and docs from protobuf. What
# it writes depends on the sources and on clang alone, not on where the tree lies. Run it through make,
# which sets the compiler and its flags.
set -euo pipefail

cd "${1:?usage: tools/generate.sh TREE PACKAGES}"
for tool in "${BPF2GO_CC:?set by the Makefile: run make generate}" "${BPF2GO_STRIP:?}"; do
	if ! command -v "$tool" >/dev/null; then
		echo "$tool is missing: run tools/deps.sh test as root" >&2
		exit 1
	fi
done

# Debug information, of which BTF keeps the file names, says where a file lies in the tree, not on the machine.
export BPF2GO_CFLAGS="${BPF2GO_CFLAGS:?} -I$PWD/bpf -ffile-prefix-map=$PWD=."

go generate "${@:2}"
