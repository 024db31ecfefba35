#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# Makes of a Debian root, $1, the one of the test guest. KERNEL_DIR is an unpacked kernel package, KERNEL_RELEASE what its
# uname says, GUEST_DIR the folder of this file.
set -eu
root=$1

mkdir -p "$root/usr/lib/modules" "$root/usr/src/vigie"
cp -a "$KERNEL_DIR/lib/modules/$KERNEL_RELEASE" "$root/usr/lib/modules/"
chroot "$root" depmod "$KERNEL_RELEASE"

# The second disk has what one run brings along; the root is the same for all runs.
cat >"$root/etc/fstab" <<-EOF
	/dev/nvme0n1 / ext4 defaults,errors=remount-ro 0 1
	/dev/vda /usr/src/vigie ext4 defaults,x-systemd.device-timeout=1h 0 0
EOF
echo vigie-host >"$root/etc/hostname"
printf '127.0.0.1 localhost vigie-host\n::1 localhost\n' >"$root/etc/hosts"
printf 'auto lo\niface lo inet loopback\n' >"$root/etc/network/interfaces"
rm -f "$root/etc/resolv.conf"
# A machine that was installed long ago, not one that starts for the first time.
chroot "$root" systemd-machine-id-setup

install -m 644 "$GUEST_DIR/tests.service" "$root/etc/systemd/system/vm-tests.service"
# Behind multi-user.target, so that the host is up when the tests begin; the serial line is theirs.
chroot "$root" systemctl add-wants graphical.target vm-tests.service
chroot "$root" systemctl mask serial-getty@ttyS0.service
