// SPDX-License-Identifier: Apache-2.0

package house

import (
	"bytes"
	"fmt"
	"regexp"
	"strings"
)

// licence holds that a source begins with the header of its licence.
func licence(t *Tree) []Finding {
	const apache = "SPDX-License-Identifier: Apache-2.0"
	headers := map[sourceKind][]string{
		goSource: {"// " + apache},
		proto:    {"// " + apache},
		hashed:   {"# " + apache},
		kernelC:  {"/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */"},
		otherC:   {"/* " + apache + " */", "// " + apache},
		script:   {"// " + apache},
		style:    {"/* " + apache + " */"},
	}
	var found []Finding
	t.sources(func(name string, kind sourceKind, data []byte) {
		first, rest, _ := strings.Cut(string(data), "\n")
		line := 1
		// A script names its interpreter first; BPF C tells Go to leave it alone.
		if strings.HasPrefix(first, "#!") || first == "//go:build ignore" {
			first, _, _ = strings.Cut(rest, "\n")
			line = 2
		}
		for _, h := range headers[kind] {
			if first == h {
				return
			}
		}
		found = append(found, Finding{name, line, "no licence header: this line must be " + headers[kind][0]})
	})
	return found
}

// length holds that a source reads like a page.
func length(t *Tree) []Finding {
	var found []Finding
	limits := longFiles()
	t.sources(func(name string, _ sourceKind, data []byte) {
		lines := bytes.Count(data, []byte("\n"))
		limit, listed := limits[name]
		if !listed {
			limit = maxLines
		}
		switch {
		case lines > limit:
			found = append(found, Finding{name, limit + 1, fmt.Sprintf("%d lines, at most %d: split it by what a reader looks for", lines, limit)})
		case listed && lines <= maxLines:
			found = append(found, Finding{name, 0, "is short enough now: take it out of longFiles in test/house/tables.go"})
		}
	})
	return found
}

// machinePaths holds that no file knows the machine on which it was written: in a source it breaks on the
// next machine, in a compiled object it also breaks that two builds are the same.
func machinePaths(t *Tree) []Finding {
	// The expression is put together so that this file is not a finding.
	private := regexp.MustCompile(`(^|[^\w./~-])(/` + `work/|/root/` + `go/|/root/` + `\.cache)`)
	var found []Finding
	for _, name := range t.names() {
		if strings.HasPrefix(name, "test/house/testdata/") {
			continue
		}
		data := t.Files[name]
		for _, at := range private.FindAllIndex(data, -1) {
			line := 1 + bytes.Count(data[:at[0]+1], []byte("\n"))
			if bytes.IndexByte(data, 0) >= 0 {
				line = 0 // binary
			}
			found = append(found, Finding{name, line, "names a folder of one machine: use a path relative to the tree or a temporary one; if it is generated, run make generate"})
		}
	}
	return found
}
