#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# Release archives in dist/: for each architecture the static binary (which holds the BPF objects), licences,
# README and the systemd unit, and SHA256SUMS over all. The bits depend on the sources, the version and the
# Go release, not on the machine, the path or the hour.
set -euo pipefail

version=${1:?usage: tools/dist.sh VERSION}
cd "$(dirname "$0")/.."
epoch=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || echo 0)}
rm -rf dist
mkdir dist

# The licence texts of Go and of the modules that are linked in, in the order of their names.
third_party() {
	printf '==== Go %s\n\n' "$(go env GOVERSION)"
	cat "$(go env GOROOT)/LICENSE"
	echo
	GOOS=linux GOARCH=$1 go list -deps -f '{{with .Module}}{{if not .Main}}{{.Path}} {{.Version}} {{.Dir}}{{end}}{{end}}' ./cmd/vigie |
		sort -u | while read -r path version dir; do
		printf '==== %s %s\n\n' "$path" "$version"
		find "$dir" -maxdepth 1 -type f \( -iname 'licen[sc]e*' -o -iname 'notice*' -o -iname 'copying*' \) -print0 |
			sort -z | xargs -0 -r cat
		echo
	done
}

for arch in amd64 arm64; do
	name=vigie-$version-linux-$arch
	out=dist/$name
	mkdir "$out"
	CGO_ENABLED=0 GOOS=linux GOARCH=$arch go build -trimpath -buildvcs=false \
		-ldflags "-s -w -buildid= -X main.version=$version" -o "$out/vigie" ./cmd/vigie
	cp -R LICENSE LICENSES deploy/systemd/vigie.service deploy/systemd/vigie-enforce.conf "$out/"
	if [ -f README.md ]; then cp README.md "$out/"; fi
	third_party "$arch" >"$out/THIRD_PARTY_LICENSES"
	find "$out" -type d -exec chmod 755 {} + -o -type f -exec chmod 644 {} +
	chmod 755 "$out/vigie"
	tar --sort=name --format=ustar --mtime="@$epoch" --owner=0 --group=0 --numeric-owner -C dist -cf - "$name" |
		gzip -n -9 >"dist/$name.tar.gz"
	cp "$out/vigie" "dist/vigie-linux-$arch"
	rm -rf "$out"
done
(cd dist && sha256sum -- * >SHA256SUMS.part && mv SHA256SUMS.part SHA256SUMS && cat SHA256SUMS)
