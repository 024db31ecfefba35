#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# Runs each test binary in a Debian guest, says each verdict on the console in a line that begins with "@vm", and turns the
# machine off. console.go reads the lines. The folders are those of the repository, as far as the tests need it.
top=/usr/src/vigie
export VIGIE_VM=debian                 # tests that change the host may do it here
export VIGIE_TEST_PROGRAMS=$top/bin    # there is no Go here to make them
export HOME=/root TERM=dumb
[ ! -e $top/env ] || . $top/env

echo "@vm boot $(uname -r) lsm=$(cat /sys/kernel/security/lsm)"
run=$(cat $top/run)
while read -r package dir; do
	cd "$top/$dir" || continue
	echo "@vm begin $package"
	./package.test -test.v -test.timeout=3h -test.run="$run" </dev/null 2>&1
	echo "@vm end $package $?"
done <$top/packages
echo "@vm done"
sync
systemctl poweroff --force --force
