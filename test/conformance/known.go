// SPDX-License-Identifier: Apache-2.0

package conformance

import (
	"strings"

	"golang.org/x/sys/unix"
)

// excused says why a case is not run, or nothing.
func excused(name string) string {
	if strings.Contains(name, "[Feature:SCTPConnectivity]") && !hasSCTP() {
		return "it needs SCTP between pods, which this machine's kernel has not"
	}
	return ""
}

// hasSCTP tells whether the kernel has the protocol.
func hasSCTP() bool {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, unix.IPPROTO_SCTP)
	if err != nil {
		return false
	}
	unix.Close(fd)
	return true
}

// explain says of a case that fails why that is no fault of vigie, or nothing.
func explain(suite, name string) string {
	return known[suite][name]
}

// known are the cases that can't pass, by suite and name.
var known = map[string]map[string]string{}
