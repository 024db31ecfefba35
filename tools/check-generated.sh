#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# Generates into a copy of the tree and requires that nothing differs. The copy lies elsewhere, so this
# also proves that generated files do not hold the path of a checkout. The tree itself is not touched.
set -euo pipefail

cd "$(dirname "$0")/.."
if ! command -v "${BPF2GO_CC:?set by the Makefile: run make check-generated}" >/dev/null; then
	echo "skipped: generated files are not compared, $BPF2GO_CC is missing" >&2
	exit 0
fi

copy=$(mktemp -d)
trap 'rm -rf "$copy"' EXIT
# With git, what is or could be committed; a release archive has no git, and nothing else in it.
files() { git ls-files -z --cached --others --exclude-standard 2>/dev/null || find . -type f -print0; }
mkdir "$copy/before"
files | while IFS= read -r -d '' f; do
	if [ -f "$f" ]; then printf '%s\0' "$f"; fi # not one that is deleted but not yet committed so
done | tar --null --no-recursion -T - -cf - | tar -xf - -C "$copy/before"
cp -a "$copy/before" "$copy/after"

# What has no source any more must show as a difference.
find "$copy/after" -name '*_bpfel.go' -delete -o -name '*_bpfel.o' -delete
tools/generate.sh "$copy/after" ./...
if ! diff -rq "$copy/before" "$copy/after" | sed "s,$copy/,,g"; then
	echo "generated files are not what their sources make: run make generate," >&2
	echo "remove what is only in before, and commit" >&2
	exit 1
fi
echo "generated files are up to date"
