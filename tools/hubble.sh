#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# Builds Hubble's own clients, hubble and hubble-relay, from the version of Cilium that go.mod names, and prints the
# directory where they are. Once for each version: it takes some minutes.
#
#   tools/hubble.sh CACHE-DIRECTORY
set -euo pipefail

cache=${1:?usage: tools/hubble.sh CACHE-DIRECTORY}
version=$(go list -m -f '{{.Version}}' github.com/cilium/cilium)
clients=$cache/hubble-$version
if [ ! -x "$clients/hubble" ] || [ ! -x "$clients/hubble-relay" ]; then
	echo "building hubble and hubble-relay $version in $clients" >&2
	# Where Go keeps the module, which has been verified, and which names the versions of all that it needs.
	module=$(go mod download -json "github.com/cilium/cilium@$version" | sed -n 's/^\t"Dir": "\(.*\)",$/\1/p')
	mkdir -p "$clients"
	(cd "$module" && GOFLAGS=-mod=readonly go build -p 1 -trimpath -o "$clients/" ./hubble ./hubble-relay)
fi
echo "$clients"
