// SPDX-License-Identifier: Apache-2.0

package model

import (
	"slices"
	"strconv"
	"strings"
)

// The text forms that JSON and protobuf share: those of a device, a mode, a capability set and an
// exec_id. Each AppendX has a ParseX that takes it back; what can't be parsed is the zero value.

// AppendDevice appends a kernel dev_t as "major:minor".
func AppendDevice(dst []byte, dev uint32) []byte {
	dst = strconv.AppendUint(dst, uint64(dev>>20), 10)
	dst = append(dst, ':')
	return strconv.AppendUint(dst, uint64(dev&0xfffff), 10)
}

// ParseDevice is the inverse of AppendDevice.
func ParseDevice(s string) uint32 {
	major, minor, _ := strings.Cut(s, ":")
	a, err1 := strconv.ParseUint(major, 10, 12)
	b, err2 := strconv.ParseUint(minor, 10, 20)
	if err1 != nil || err2 != nil {
		return 0
	}
	return uint32(a)<<20 | uint32(b)
}

// AppendMode appends a mode in octal with a leading zero, as C and chmod write it.
func AppendMode(dst []byte, mode uint32) []byte {
	dst = append(dst, '0')
	if mode == 0 {
		return dst
	}
	return strconv.AppendUint(dst, uint64(mode), 8)
}

// ParseMode is the inverse of AppendMode.
func ParseMode(s string) uint32 {
	n, err := strconv.ParseUint(s, 8, 32)
	if err != nil {
		return 0
	}
	return uint32(n)
}

// AppendCapSet appends a capability set as sixteen hexadecimal digits, as /proc/PID/status shows it.
func AppendCapSet(dst []byte, s CapSet) []byte {
	const hex = "0123456789abcdef"
	for shift := 60; shift >= 0; shift -= 4 {
		dst = append(dst, hex[s>>shift&15])
	}
	return dst
}

// ParseCapSet is the inverse of AppendCapSet.
func ParseCapSet(s string) CapSet {
	n, err := strconv.ParseUint(s, 16, 64)
	if err != nil {
		return 0
	}
	return CapSet(n)
}

// ParseCap is the inverse of Cap.String; ok is false for what is no capability.
func ParseCap(s string) (c Cap, ok bool) {
	if i := slices.Index(capNames[:], s); i >= 0 {
		return Cap(i), true
	}
	number, found := strings.CutPrefix(s, "CAP_")
	n, err := strconv.ParseUint(number, 10, 8)
	return Cap(n), found && err == nil
}

// ParseExecID is the inverse of ProcessKey.ExecID; ok is false for what is no exec_id.
func ParseExecID(s string) (key ProcessKey, boot string, ok bool) {
	parts := strings.Split(s, "-")
	if len(parts) != 4 {
		return ProcessKey{}, "", false
	}
	pid, err1 := strconv.ParseUint(parts[1], 16, 32)
	start, err2 := strconv.ParseUint(parts[2], 16, 64)
	exec, err3 := strconv.ParseUint(parts[3], 16, 32)
	if err1 != nil || err2 != nil || err3 != nil {
		return ProcessKey{}, "", false
	}
	return ProcessKey{PID: uint32(pid), Start: start, Exec: uint32(exec)}, parts[0], true
}
