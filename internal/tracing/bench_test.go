// SPDX-License-Identifier: Apache-2.0

package tracing

import (
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// BenchmarkOpen is a failing open of a name that no filter matches: what a policy costs those that it is not about. "no policy"
// stands beside the others in the same run.
func BenchmarkOpen(b *testing.B) {
	for _, bench := range []struct{ name, spec string }{
		{"no policy", ""},
		{"policy of another call", onCall("sys_mkdirat", "[{index: 1, type: string}]", "matchArgs: [{index: 1, operator: Prefix, values: [/vt/]}]")},
		{"ten prefixes", onCall("sys_openat", "[{index: 1, type: string}]", "matchArgs: [{index: 1, operator: Prefix, values: ["+strings.Join(many(10, "/vt/dir/%d/"), ", ")+"]}]")},
		{"a thousand prefixes", onCall("sys_openat", "[{index: 1, type: string}]", "matchArgs: [{index: 1, operator: Prefix, values: ["+strings.Join(many(1000, "/vt/dir/%d/"), ", ")+"]}]")},
		{"binary of the caller", onCall("sys_openat", "[]", "matchBinaries: [{operator: In, values: [/usr/bin/nothing]}]")},
	} {
		b.Run(bench.name, func(b *testing.B) {
			if bench.spec != "" {
				newRig(b, nil).apply(bench.spec)
			}
			for b.Loop() {
				if fd, err := unix.Open("/vt/other/file", unix.O_RDONLY, 0); err == nil {
					_ = unix.Close(fd)
				}
			}
		})
	}
}
