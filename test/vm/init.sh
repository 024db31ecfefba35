#!/bin/busybox sh
# SPDX-License-Identifier: Apache-2.0
#
# First process of the test guest: mounts what the tests need, runs each test binary, says each verdict
# on the console in a line that begins with "@vm", and turns the machine off. console.go reads the lines.

# The kernel's first root cannot be left by pivot_root, which tests and containers do: move to another.
if [ "$1" != moved ]; then
	box=/bin/busybox
	$box mkdir /new && $box mount -t tmpfs -o size=75% root /new
	$box cp -a /bin /sbin /usr /etc /modules /tests /init /new
	cd /new && $box mkdir dev proc sys tmp run root var
	exec $box switch_root /new /init moved
fi

# Hard links: each command is a file of its own name to those who look at executables.
/bin/busybox --install
export PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root TERM=dumb
export VIGIE_VM=1   # tests that may skip on a host whose kernel is unknown must not skip here

mount -t devtmpfs dev /dev
mkdir -p /dev/pts /dev/shm
mount -t devpts devpts /dev/pts
mount -t tmpfs shm /dev/shm
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t tmpfs tmp /tmp
mount -t tmpfs run /run
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mount -t bpf bpf /sys/fs/bpf
mount -t tracefs tracefs /sys/kernel/tracing
mount -t securityfs securityfs /sys/kernel/security
ln -s /proc/self/fd /dev/fd
ln -s /proc/mounts /etc/mtab
hostname vigie-vm
ip link set lo up

for module in /modules/*; do
	[ -e "$module" ] || continue
	plain=$module
	case $module in
	*.xz) plain=/tmp/module.ko; unxz -c "$module" >$plain ;;
	esac
	insmod "$plain" || echo "vm: $module was not loaded; tests that need it will say so"
done
rm -f /tmp/module.ko

echo "@vm boot $(uname -r) lsm=$(cat /sys/kernel/security/lsm)"
run=$(cat /etc/run)
for dir in /tests/*; do
	package=$(cat "$dir/package")
	cd "$dir" || continue
	echo "@vm begin $package"
	# Standard input is not the console, so that a test that reads it ends.
	./test -test.v -test.timeout=60m -test.run="$run" </dev/null 2>&1
	echo "@vm end $package $?"
done
echo "@vm done"
sync
poweroff -f
