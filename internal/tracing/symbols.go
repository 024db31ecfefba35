// SPDX-License-Identifier: Apache-2.0

package tracing

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
)

// symbols gives addresses names. The kernel's are read once, when the first stack comes; a process's maps for each stack.
type symbols struct {
	read bool
	list []symbol // by address
}

type symbol struct {
	addr uint64
	name string
}

func (s *symbols) kernel(frames []byte) []string {
	if len(frames) == 0 {
		return nil
	}
	if !s.read {
		s.read = true
		s.list = kernelSymbols("/proc/kallsyms")
	}
	var out []string
	for _, a := range addresses(frames) {
		i, _ := slices.BinarySearchFunc(s.list, a+1, func(y symbol, a uint64) int {
			if y.addr < a {
				return -1
			}
			return 1
		})
		if i == 0 {
			out = append(out, fmt.Sprintf("%#x", a))
			continue
		}
		y := s.list[i-1]
		out = append(out, fmt.Sprintf("%s+%#x", y.name, a-y.addr))
	}
	return out
}

func addresses(frames []byte) []uint64 {
	var out []uint64
	for len(frames) >= 8 {
		out = append(out, binary.NativeEndian.Uint64(frames))
		frames = frames[8:]
	}
	return out
}

// kernelSymbols reads functions; where the kernel hides addresses there are none.
func kernelSymbols(file string) []symbol {
	f, err := os.Open(file)
	if err != nil {
		return nil
	}
	defer f.Close()
	var out []symbol
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		w := strings.Fields(lines.Text())
		if len(w) < 3 || !strings.ContainsAny(w[1], "tTwW") {
			continue
		}
		if addr, err := strconv.ParseUint(w[0], 16, 64); err == nil && addr != 0 {
			out = append(out, symbol{addr, w[2]})
		}
	}
	slices.SortFunc(out, func(a, b symbol) int {
		if a.addr < b.addr {
			return -1
		}
		return 1
	})
	return out
}

// user names each address by the file that is mapped there: "/usr/lib/libc.so.6+0x9d2a0", the offset in the file. A process
// that has ended by now leaves the addresses alone.
func (s *symbols) user(pid uint32, frames []byte) []string {
	if len(frames) == 0 {
		return nil
	}
	mapped := mappings(pid)
	var out []string
	for _, a := range addresses(frames) {
		text := fmt.Sprintf("%#x", a)
		for _, m := range mapped {
			if a >= m.start && a < m.end {
				text = fmt.Sprintf("%s+%#x", m.file, a-m.start+m.offset)
			}
		}
		out = append(out, text)
	}
	return out
}

type mapping struct {
	start, end, offset uint64
	file               string
}

func mappings(pid uint32) []mapping {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/maps", pid))
	if err != nil {
		return nil
	}
	var out []mapping
	for line := range strings.Lines(string(b)) {
		w := strings.Fields(line)
		if len(w) < 6 || !strings.HasPrefix(w[5], "/") {
			continue
		}
		from, to, _ := strings.Cut(w[0], "-")
		start, err1 := strconv.ParseUint(from, 16, 64)
		end, err2 := strconv.ParseUint(to, 16, 64)
		offset, err3 := strconv.ParseUint(w[2], 16, 64)
		if err1 == nil && err2 == nil && err3 == nil {
			out = append(out, mapping{start, end, offset, w[5]})
		}
	}
	return out
}
