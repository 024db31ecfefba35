#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# Installs the Debian packages that a lane of tests needs: as root what is missing, otherwise it names it
# and leaves with 0, so that what can run does run. It is fast when all is there.
#
#   tools/deps.sh test    compile BPF C, race detector, DuckDB, network namespaces, servers to attack
#   tools/deps.sh vm      QEMU 10 and busybox; an error without them
#   tools/deps.sh host    QEMU 10 and what makes a Debian root; an error without them
#   tools/deps.sh cluster  what nodes of a test cluster need beside what is built; an error without them
#   tools/deps.sh ui      a browser, a font, the servers of the shop that the page is tested with
set -euo pipefail

lane=${1:?usage: tools/deps.sh test|vm|host|cluster|ui}
case $lane in
test) packages=(clang-19 llvm-19 libbpf-dev linux-libc-dev gcc g++ libc6-dev iproute2 nftables procps util-linux
	nginx-light redis-server redis-tools postgresql curl wget mariadb-server-core mariadb-client-core) ;;
vm) packages=(qemu-system-x86 busybox-static) ;;
host) packages=(qemu-system-x86 mmdebstrap e2fsprogs) ;;
cluster) packages=(runc iptables conntrack iproute2 nftables util-linux) ;;
ui) packages=(chromium fonts-inter fonts-dejavu-core nginx-light redis-server) ;;
*) echo "tools/deps.sh: unknown lane $lane; it is test, vm, host, cluster or ui" >&2; exit 2 ;;
esac

if ! command -v go >/dev/null; then
	echo "Go is missing: install the version that go.mod names, see https://go.dev/dl" >&2
	exit 1
fi
if ! command -v dpkg-query >/dev/null; then
	echo "not a Debian system: this lane needs what Debian calls ${packages[*]}" >&2
	exit 0
fi

installed() { [ "$(dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null)" = installed ]; }

# Debian 12's own QEMU, 7.2, panics on Linux 6.12.
new_enough() { [ "$1" != qemu-system-x86 ] || dpkg --compare-versions "$(dpkg-query -W -f '${Version}' "$1")" ge 1:10; }

missing=()
for p in "${packages[@]}"; do
	if ! installed "$p" || ! new_enough "$p"; then missing+=("$p"); fi
done
[ ${#missing[@]} -gt 0 ] || exit 0

release=$(. /etc/os-release && echo "${VERSION_CODENAME:-}")
if [ "$(id -u)" != 0 ]; then
	echo "missing Debian packages: ${missing[*]}" >&2
	echo "install them: sudo apt-get update && sudo apt-get install -y --no-install-recommends ${missing[*]}" >&2
	if [ "$lane" != test ]; then
		[ "$lane" = cluster ] || echo "on Debian 12 QEMU 10 is in bookworm-backports; sudo tools/deps.sh $lane does it" >&2
		exit 1
	fi
	exit 0
fi

export DEBIAN_FRONTEND=noninteractive
apt-get update -q
if [ "$lane" != test ] && [ "$lane" != cluster ] && [ "$release" = bookworm ]; then
	# bookworm-backports is named for this one installation; the machine's sources stay as they are.
	# Its mirror is the one that the machine uses already.
	mirror=$(apt-get indextargets --format '$(CODENAME) $(COMPONENT) $(REPO_URI)' 'Created-By: Packages' |
		awk '$1 == "bookworm" && $2 == "main" {print $3; exit}')
	private=$(mktemp -d)
	trap 'rm -rf "$private"' EXIT
	chmod 755 "$private"
	mkdir -p "$private/lists/partial"
	for suite in bookworm bookworm-backports; do
		echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] ${mirror:-http://deb.debian.org/debian} $suite main"
	done >"$private/sources.list"
	with=(-o "Dir::Etc::SourceList=$private/sources.list" -o Dir::Etc::SourceParts=- -o "Dir::State::Lists=$private/lists")
	apt-get "${with[@]}" update -q
	apt-get "${with[@]}" install -y -q --no-install-recommends -t bookworm-backports "${missing[@]}"
	exit 0
fi
# Servers are for tests, which start their own: a package must not start one. invoke-rc.d asks this file.
denied=/usr/sbin/policy-rc.d
if [ ! -e "$denied" ]; then
	trap 'rm -f "$denied"' EXIT
	printf '#!/bin/sh\nexit 101\n' >"$denied"
	chmod 755 "$denied"
fi
apt-get install -y -q --no-install-recommends "${missing[@]}"
