#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# The web page: builds it, or shows that what is committed is what its sources make, to the same bits.
#
#   tools/ui.sh build    look at the sources and build ui/dist
#   tools/ui.sh check    the same into a copy, and require no difference; passed over without Node
set -euo pipefail

cd "$(dirname "$0")/.."
mode=${1:?usage: tools/ui.sh build|check}

# Vite's own requirement. Debian 13 has such a Node, Debian 12 has an older one.
if ! command -v npm >/dev/null || ! node -e 'const [a, b] = process.versions.node.split("."); process.exit(a > 20 || a == 20 && b >= 19 ? 0 : 1)' 2>/dev/null; then
	if [ "$mode" = check ]; then
		echo "skipped: the web page is not compared, Node 20.19 or newer is missing" >&2
		exit 0
	fi
	echo "Node 20.19 or newer with npm is missing: Debian 13 has it, for others see https://nodejs.org" >&2
	exit 1
fi

# What npm installed for this lock file stays.
if ! cmp -s ui/package-lock.json ui/node_modules/.lock-of-vigie; then
	(cd ui && npm ci --ignore-scripts --no-fund --no-audit --loglevel=error)
	cp ui/package-lock.json ui/node_modules/.lock-of-vigie
fi

out=$PWD/ui/dist
if [ "$mode" = check ]; then
	copy=$(mktemp -d)
	trap 'rm -rf "$copy"' EXIT
	out=$copy/dist
	generated=$copy/gen
	mkdir "$generated"
	(cd api && go run ./internal/protogen -typescript "$generated")
	if ! diff -r "$generated" ui/src/gen; then
		echo "ui/src/gen is not what api/vigie/v1 makes: run make ui and commit" >&2
		exit 1
	fi
else
	rm -rf ui/src/gen
	(cd api && go run ./internal/protogen -typescript ../ui/src/gen)
fi
cd ui
npm run --silent check
npm run --silent unit
npm run --silent build -- --outDir "$out" --emptyOutDir --logLevel warn
cd ..
if [ "$mode" = check ]; then
	if ! diff -rq "$out" ui/dist; then
		echo "ui/dist is not what ui/src makes: run make ui and commit" >&2
		exit 1
	fi
	echo "the web page is up to date"
fi
