// SPDX-License-Identifier: Apache-2.0

package tracing

import (
	"fmt"
	"strconv"
	"strings"
)

// numbers reads the values that a number is compared with: single ones and ranges, both ends included. Signed numbers
// are returned by their 64 bits.
func (c *compiler) numbers(path, op string, values []string, v *value) (single []uint64, ranges [][2]uint64) {
	for i, s := range values {
		at := fmt.Sprintf("%s.values[%d]", path, i)
		if name, ok := strings.CutPrefix(s, "list:"); ok {
			single = append(single, c.listNumbers(at, name)...)
			continue
		}
		if first, last, ok := strings.Cut(s, ":"); ok && (op == "InRange" || op == "InMap") {
			lo, err1 := number(first, v)
			hi, err2 := number(last, v)
			if err1 != nil || err2 != nil {
				c.fail(at, "%q is no range of numbers of type %s, such as 10:20", s, v.arg.Type)
				continue
			}
			ranges = append(ranges, [2]uint64{lo, hi})
			continue
		}
		n, err := number(s, v)
		if err != nil {
			c.fail(at, "%v", err)
			continue
		}
		if op == "InRange" {
			ranges = append(ranges, [2]uint64{n, n})
			continue
		}
		single = append(single, n)
	}
	return single, ranges
}

// number reads one value as the type of what it is compared with.
func number(s string, v *value) (uint64, error) {
	switch v.arg.Type {
	case "capability":
		if n, ok := capByName(s); ok {
			return uint64(n), nil
		}
	case "syscall64":
		if n, ok := syscallNumbers()[strings.TrimPrefix(s, "sys_")]; ok {
			return uint64(n), nil
		}
	case "sockaddr_un":
		if n, ok := families()[strings.TrimPrefix(strings.ToUpper(s), "AF_")]; ok {
			return n, nil
		}
	}
	bits := v.typ.bits
	if bits == 0 {
		bits = 64
	}
	if v.typ.signed {
		n, err := strconv.ParseInt(s, 0, bits)
		if err == nil {
			return uint64(n), nil
		}
		// A mask or a flag is often written as its bits.
		if u, err := strconv.ParseUint(s, 0, bits); err == nil {
			shift := 64 - bits
			return uint64(int64(u<<shift) >> shift), nil
		}
		return 0, fmt.Errorf("%q is no number of type %s", s, v.arg.Type)
	}
	n, err := strconv.ParseUint(s, 0, bits)
	if err != nil {
		return 0, fmt.Errorf("%q is no number of type %s", s, v.arg.Type)
	}
	return n, nil
}

// listNumbers are the numbers of the system calls of a list.
func (c *compiler) listNumbers(at, name string) []uint64 {
	for _, l := range c.p.Document.Spec.Lists {
		if l.Name != name {
			continue
		}
		var out []uint64
		for _, s := range l.Values {
			short, problem := syscallName(s)
			if problem != "" {
				c.fail(at, "%s", problem)
				continue
			}
			out = append(out, uint64(syscallNumbers()[short]))
		}
		return out
	}
	c.fail(at, "there is no list %q in spec.lists", name)
	return nil
}
