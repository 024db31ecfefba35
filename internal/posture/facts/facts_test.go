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

		mounts []string
	}{
		{"nothing was written", long, NoWrites, true, "seen 15 days, no write outside of volumes", nil},
		{"something was written", with(func(s *Seen) { s.Writes = []string{"/var/run/a"} }), NoWrites, false, "/var/run/a", nil},
		{"in a volume", with(func(s *Seen) { s.Writes = []string{"/tmp/a/b", "/run/b"} }), NoWrites, true, "seen 15 days, no write outside of /tmp, /var/run/", []string{"/tmp", "/var/run/"}},
		{"beside a volume", with(func(s *Seen) { s.Writes = []string{"/tmp/a", "/tmpfile"} }), NoWrites, false, "seen in 15 days: /tmpfile", []string{"/tmp"}},
		{"too short", Seen{From: from, To: from.Add(time.Hour)}, NoWrites, false, "watched for 1h0m0s, want 336h", nil},
		{"a capability", with(func(s *Seen) { s.Capabilities = []string{"NET_RAW"} }), NoCapabilities, false, "NET_RAW", nil},
		{"no capability", long, NoCapabilities, true, "15 days", nil},
		{"setuid", with(func(s *Seen) { s.Setuid = true }), NoSetuid, false, "setuid", nil},
		{"root", with(func(s *Seen) { s.Users = []uint32{7, 0} }), NotRoot, false, "user 0", nil},
		{"not root", with(func(s *Seen) { s.Users = []uint32{7} }), NotRoot, true, "15 days", nil},
		{"something else", long, "x", false, "no proof", nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if why, ok := tt.seen.Proof(tt.what, 14*24*time.Hour, tt.mounts); ok != tt.ok || !strings.Contains(why, tt.says) {
				t.Errorf("%v %q, want %v with %q", ok, why, tt.ok, tt.says)
			}
		})
	}
}
