// SPDX-License-Identifier: Apache-2.0

package l7

import "github.com/vigie-io/vigie/internal/model"

// TraceParent reads a traceparent header (W3C Trace Context, section 3.2) into r. What does not keep to the format is
// left alone: no parent is claimed that is not certain.
func TraceParent(r *model.Request, v []byte) {
	// version "-" trace-id "-" parent-id "-" flags
	if len(v) < 55 || v[2] != '-' || v[35] != '-' || v[52] != '-' {
		return
	}
	version, trace, parent, flags := v[:2], v[3:35], v[36:52], v[53:55]
	if !lowerHex(version) || !lowerHex(trace) || !lowerHex(parent) || !lowerHex(flags) || string(version) == "ff" ||
		zeros(trace) || zeros(parent) {
		return
	}
	// Version 00 has nothing behind the flags; a later one has a dash before what it adds.
	if len(v) > 55 && (string(version) == "00" || v[55] != '-') {
		return
	}
	r.TraceID, r.ParentSpanID = string(trace), string(parent)
	r.Sampled = nibble(flags[1])&1 != 0
}

func lowerHex(b []byte) bool {
	for _, c := range b {
		if (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return true
}

func zeros(b []byte) bool {
	for _, c := range b {
		if c != '0' {
			return false
		}
	}
	return true
}

func nibble(c byte) byte {
	if c <= '9' {
		return c - '0'
	}
	return c - 'a' + 10
}
