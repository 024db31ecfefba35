// SPDX-License-Identifier: Apache-2.0

package host

import (
	"os"
	"path/filepath"
	"testing"
)

func TestPasswd(t *testing.T) {
	path := filepath.Join(t.TempDir(), "passwd")
	p := NewPasswd(path)
	if got := p.Name(1000); got != "" {
		t.Errorf("without a file: %q", got)
	}
	write(t, path, "root:x:0:0:root:/root:/bin/bash\n# no user\n+nis\nalice:x:1000:1000::/home/alice:/bin/sh\ntoor:x:0:0::/:/bin/sh\n")
	for uid, want := range map[uint32]string{0: "root", 1000: "alice", 1001: ""} {
		if got := p.Name(uid); got != want {
			t.Errorf("uid %d: got %q, want %q", uid, got, want)
		}
	}
	// A user is added the way useradd does it: a new file takes the place of the old one.
	write(t, path+"+", "root:x:0:0:root:/root:/bin/bash\nbob:x:1001:1001::/home/bob:/bin/sh\n")
	if err := os.Rename(path+"+", path); err != nil {
		t.Fatal(err)
	}
	if got := p.Name(1001); got != "bob" {
		t.Errorf("after the file changed: got %q, want bob", got)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if got := p.Name(1001); got != "bob" {
		t.Errorf("while the file is away: got %q, want bob", got)
	}
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}
