// SPDX-License-Identifier: Apache-2.0

package kernel

import "strings"

// UnsupportedError says that the running kernel, or what the process may do on it, lacks a feature.
// Rooms return it in place of the bare errno, so that whoever reads it knows what to do.
type UnsupportedError struct {
	Feature string // what was asked for, e.g. "lsm programs"
	Cause   string // why it does not work here, one true sentence without its full stop
	Needs   string // what it would take, e.g. "Linux 6.6 or newer"; empty when that is not known
}

// Error is "FEATURE is not available: CAUSE; it takes NEEDS".
func (e *UnsupportedError) Error() string {
	var b strings.Builder
	b.WriteString(e.Feature)
	b.WriteString(" is not available")
	if e.Cause != "" {
		b.WriteString(": ")
		b.WriteString(e.Cause)
	}
	if e.Needs != "" {
		b.WriteString("; it takes ")
		b.WriteString(e.Needs)
	}
	return b.String()
}
