#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# Runs the command that is its argument where it can do no harm: in a mount namespace of its own, in which the
# directories of the host are covered by layers in memory. W names an empty directory; it is in memory too. CGROUP, where it is
# set, names the cgroup to join.
set -e
mount -t tmpfs tmpfs "$W"
chmod 755 "$W"
for d in etc root usr var home boot srv opt; do
	mkdir -p "$W/.l/$d/u" "$W/.l/$d/w"
	chmod 755 "$W/.l/$d/u"
	[ -d "/$d" ] || continue
	mount -t overlay overlay -o "lowerdir=/$d,upperdir=$W/.l/$d/u,workdir=$W/.l/$d/w" "/$d"
done
mkdir -p "$W/bin" "$W/empty" /root/.ssh /home/a /var/www/html
cd "$W"

# as NAME PROGRAM ARGUMENT...: the program by another name
as() {
	n=$1
	p=$(command -v "$2")
	shift 2
	cp "$p" "$W/bin/$n"
	"$W/bin/$n" "$@"
}
# fake NAME ARGUMENT...: something of that name that does nothing
fake() {
	n=$1
	shift
	as "$n" /bin/true "$@"
}
nobody() { setpriv --reuid 65534 --regid 65534 --clear-groups "$@"; }
# over FILE: a file in place of one that must stay as it is
over() {
	cat "$1" >"$W/over" 2>/dev/null || : >"$W/over"
	mount --bind "$W/over" "$1"
}
# ask NAME...: questions to the DNS server of the test, by one process
ask() {
	perl -MIO::Socket::INET -e '$s = IO::Socket::INET->new(Proto => "udp", PeerAddr => $ENV{DNS_SERVER}, PeerPort => 53);
		for (@ARGV) { $s->send(pack("n6", ++$i, 256, 1, 0, 0, 0) . join("", map { pack("C/a", $_) } split(/\./)) . pack("Cn2", 0, 1, 1)); $s->recv($b, 512) }' "$@"
}
# reach NAME: a question as those of ask, and a connection to the address that is the answer
reach() {
	perl -MIO::Socket::INET -e '$s = IO::Socket::INET->new(Proto => "udp", PeerAddr => $ENV{DNS_SERVER}, PeerPort => 53);
		$s->send(pack("n6", 1, 256, 1, 0, 0, 0) . join("", map { pack("C/a", $_) } split(/\./, $ARGV[0])) . pack("Cn2", 0, 1, 1));
		$s->recv($b, 512) // die; IO::Socket::INET->new(PeerAddr => join(".", unpack("C4", substr($b, -4))), PeerPort => 9)' "$1"
}
# devices: a /dev of our own
devices() {
	mknod "$W/null" c 1 3
	mount -t tmpfs tmpfs /dev
	mkdir /dev/shm /dev/input
	mknod /dev/null c 1 3
}
# From here on it is what happens in the container.
[ -z "$CGROUP" ] || echo $$ >"$CGROUP/cgroup.procs"
eval "$1"
