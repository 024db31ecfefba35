// SPDX-License-Identifier: Apache-2.0

package exec

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

func TestInternedIsWhatWouldBeDecoded(t *testing.T) {
	n := newInterned()
	for range 2 {
		for _, c := range []struct {
			components string
			cut        bool
			want       string
		}{{"sh\x00bin\x00", false, "/bin/sh"}, {"sh\x00bin\x00", true, "…/bin/sh"}, {"", false, "/"},
			{strings.Repeat("x", 600) + "\x00", false, "/" + strings.Repeat("x", 600)}} {
			if got := n.path([]byte(c.components), c.cut); got != c.want {
				t.Errorf("path of %q is %q, want %q", c.components, got, c.want)
			}
		}
		if got := n.split([]byte("a\x00\x00b\x00")); !slices.Equal(got, []string{"a", "", "b"}) {
			t.Errorf("split gives %q", got)
		}
	}
	for i := range 10 * maxInterned {
		key := []byte(fmt.Sprintf("%d\x00", i))
		if n.path(key, false) != fmt.Sprintf("/%d", i) || n.split(key)[0] != fmt.Sprint(i) {
			t.Fatalf("entry %d is wrong", i)
		}
	}
	if len(n.paths) > maxInterned || len(n.args) > maxInterned {
		t.Errorf("%d paths and %d argument lists are kept", len(n.paths), len(n.args))
	}
}
