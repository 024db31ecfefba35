// SPDX-License-Identifier: Apache-2.0

package facts

import (
	"strings"
	"testing"
	"time"
)

func TestProof(t *testing.T) {
	from := time.Unix(0, 0)
	long := Seen{From: from, To: from.Add(15 * 24 * time.Hour)}
	with := func(edit func(*Seen)) Seen {
		s := long
		edit(&s)
		return s
	}
	for _, tt := range []struct {
		name string
		seen Seen
		what string
		ok   bool
		says string
	}{
		{"nothing was written", long, NoWrites, true, "seen 15 days, no write outside of volumes"},
		{"something was written", with(func(s *Seen) { s.Writes = []string{"/var/run/a"} }), NoWrites, false, "/var/run/a"},
		{"too short", Seen{From: from, To: from.Add(time.Hour)}, NoWrites, false, "want 336h"},
		{"a capability", with(func(s *Seen) { s.Capabilities = []string{"NET_RAW"} }), NoCapabilities, false, "NET_RAW"},
		{"no capability", long, NoCapabilities, true, "15 days"},
		{"setuid", with(func(s *Seen) { s.Setuid = true }), NoSetuid, false, "setuid"},
		{"root", with(func(s *Seen) { s.Users = []uint32{7, 0} }), NotRoot, false, "user 0"},
		{"not root", with(func(s *Seen) { s.Users = []uint32{7} }), NotRoot, true, "15 days"},
		{"something else", long, "x", false, "no proof"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if why, ok := tt.seen.Proof(tt.what, 14*24*time.Hour); ok != tt.ok || !strings.Contains(why, tt.says) {
				t.Errorf("%v %q, want %v with %q", ok, why, tt.ok, tt.says)
			}
		})
	}
}
