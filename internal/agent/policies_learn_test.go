// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"errors"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/vigie-io/vigie/internal/policy"
)

// TestSectionsHere: what a kernel carries in part is learned with weaker: accept, what it carries not at all is left out.
func TestSectionsHere(t *testing.T) {
	for _, c := range []struct {
		name            string
		refused         func(section, yaml string) bool
		without, weaker string
	}{
		{"a kernel that denies everything", func(_, _ string) bool { return false }, "", ""},
		{"opens denied by fanotify, names not", func(section, yaml string) bool {
			return section == "capabilities" || section == "files" && !strings.Contains(yaml, "access")
		}, "capabilities", "files"},
		{"execs killed, files not denied", func(section, yaml string) bool {
			return section == "files" || section == "processes" && !strings.Contains(yaml, "kill")
		}, "files", "processes"},
		{"no enforcement at all", func(_, _ string) bool { return true }, "", ""},
	} {
		without, weaker := SectionsHere(func(section, yaml string) error {
			if _, err := policy.Parse(section, []byte(yaml)); err != nil {
				t.Errorf("%s: %v", section, err)
			}
			if c.refused(section, yaml) {
				return errors.New("policy section: no")
			}
			return nil
		})
		for _, side := range []struct {
			want string
			got  map[string]string
		}{{c.without, without}, {c.weaker, weaker}} {
			what, got := side.want, side.got
			if names := strings.Join(slices.Sorted(maps.Keys(got)), " "); names != what {
				t.Errorf("%s: %q, want %q", c.name, names, what)
			}
			for section, why := range got {
				if why != "no" {
					t.Errorf("%s: %s because %q", c.name, section, why)
				}
			}
		}
	}
}
