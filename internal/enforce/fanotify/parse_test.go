// SPDX-License-Identifier: Apache-2.0

package fanotify

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/vigie-io/vigie/internal/enforce"
	"github.com/vigie-io/vigie/internal/enforce/subject"
	"github.com/vigie-io/vigie/internal/model"
	"github.com/vigie-io/vigie/internal/policy"
)

func TestParseCall(t *testing.T) {
	both := call{read: true, write: true}
	openat := func(flags int) string {
		return fmt.Sprintf("%d 0xffffff9c 0x7f00 0x%x 0x1b6 0x0 0x0 0x7ffe 0x7f01", unix.SYS_OPENAT, flags)
	}
	for _, c := range []struct {
		text string
		want call
	}{
		{openat(unix.O_RDONLY | unix.O_CLOEXEC), call{read: true}},
		{openat(unix.O_WRONLY), call{write: true}},
		{openat(unix.O_RDWR), both},
		{openat(unix.O_ACCMODE), both},
		{openat(unix.O_RDONLY | unix.O_CREAT), both},
		{openat(unix.O_RDONLY | unix.O_TRUNC), both},
		{fmt.Sprintf("%d 0x0 0x0 0x0 0x0 0x0 0x0 0x7ffe 0x7f01", unix.SYS_EXECVE), call{exec: true}},
		{fmt.Sprintf("%d 0x5 0x7f 0x0 0x0 0x1000 0x0 0x7ffe 0x7f01", unix.SYS_EXECVEAT), call{exec: true}},
		{fmt.Sprintf("%d 0xffffff9c 0x7f00 0x0 0x18 0x0 0x0 0x7ffe 0x7f01", unix.SYS_OPENAT2), both},
		{fmt.Sprintf("%d 0x3 0x1 0x1 0x1 0x0 0x0 0x7ffe 0x7f01", unix.SYS_IO_URING_ENTER), both},
		{"-1 0x0 0x0", both}, // a worker of io_uring
		{"", both},
		{"x y z", both},
	} {
		if got := parseCall([]byte(c.text)); got != c.want {
			t.Errorf("%q: %+v, want %+v", c.text, got, c.want)
		}
	}
}

func TestParseMounts(t *testing.T) {
	text := `22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
30 22 0:26 / /proc rw,nosuid - proc proc rw
31 22 0:40 /sub /mnt/with\040space rw master:1 - tmpfs none rw,size=1k
not a mount
32 22 x:y / /bad rw - ext4 none rw
`
	want := []Mount{{22, unix.Mkdev(8, 1), "/", "/", "ext4"}, {30, unix.Mkdev(0, 26), "/proc", "/", "proc"},
		{31, unix.Mkdev(0, 40), "/mnt/with space", "/sub", "tmpfs"}}
	if got := parseMounts([]byte(text)); !reflect.DeepEqual(got, want) {
		t.Errorf("%+v, want %+v", got, want)
	}
}

func TestPatternNeed(t *testing.T) {
	for glob, want := range map[string]need{
		"/etc/shadow":           {dir: "/etc", name: "shadow"},
		"/etc/*.key":            {dir: "/etc", name: "*.key"},
		"/etc/ssl/[a-c]?.pem":   {dir: "/etc/ssl", name: "[a-c]?.pem"},
		"/shadow":               {dir: "/", name: "shadow"},
		"/root/.ssh/**":         {dir: "/root/.ssh"},
		"/home/*/.ssh/id_rsa":   {dir: "/home"},
		"/srv/a*/b/**":          {dir: "/srv"},
		"/srv/**/key":           {dir: "/srv"},
		"**/key":                {dir: "/"},
		"/*":                    {dir: "/", name: "*"},
		`/etc/with\*star`:       {dir: "/etc"},
		`/etc/with\ dir/shadow`: {dir: "/etc"},
		"/data/":                {dir: "/data"},
	} {
		if got := patternNeed(glob, 0); got != want {
			t.Errorf("%s: %+v, want %+v", glob, got, want)
		}
	}
}

func TestCanAnswer(t *testing.T) {
	for kind, want := range map[string]bool{"ext4": true, "overlay": true, "tmpfs": true, "btrfs": true, "xfs": true, "fuse.sshfs": false,
		"fuse": false, "nfs4": false, "proc": false, "devtmpfs": false, "cgroup2": false} {
		if got := canAnswer(kind); got != want {
			t.Errorf("%s: %v", kind, got)
		}
	}
}

func TestIsLoader(t *testing.T) {
	for name, want := range map[string]bool{"/lib64/ld-linux-x86-64.so.2": true, "/lib/ld-musl-aarch64.so.1": true, "/lib/ld-2.31.so": true,
		"/usr/bin/ld.so": true, "/lib/ld64.so.2": true, "/usr/bin/ld": false, "/usr/lib/libldap.so.2": false, "/tmp/ldd.so.x": false,
		"/usr/bin/ldd": false} {
		if got := isLoader(name); got != want {
			t.Errorf("%s: %v", name, got)
		}
	}
}

// A loader starts programs, not libraries.
func TestIsProgram(t *testing.T) {
	look := func(name string) bool {
		fd, err := unix.Open(name, unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer unix.Close(fd)
		return isProgram(int32(fd))
	}
	if id, err := exec.LookPath("id"); err == nil && !look(id) {
		t.Errorf("%s is no program", id)
	}
	if libraries, _ := filepath.Glob("/lib/*/libc.so.6"); len(libraries) > 0 && look(libraries[0]) {
		t.Errorf("%s is a program", libraries[0])
	}
	for name, text := range map[string]string{"empty": "", "short": "\x7fELF\x02\x01\x01", "text": "#!/bin/sh\n"} {
		file := t.TempDir() + "/" + name
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		if look(file) {
			t.Errorf("%s is a program", name)
		}
	}
}

func tableOf(t *testing.T, spec string) *policy.Table {
	t.Helper()
	policies, err := policy.Parse("test", []byte("apiVersion: vigie.io/v1alpha1\nkind: WorkloadPolicy\nmetadata: {name: test}\nspec:\n  selector: {}\n  mode: enforce\n"+spec))
	if err != nil {
		t.Fatal(err)
	}
	table, err := policy.Compile(policies[0], policy.Env{})
	if err != nil {
		t.Fatal(err)
	}
	return table
}

// Of the other names of a file only what is denied by name counts.
func TestJudgeOtherNames(t *testing.T) {
	set := tableSet{7: tableOf(t, "  files: {deny: [{path: /etc/shadow, access: [read]}], allow: [{path: /tmp/*}]}\n")}
	e := subject.Entry{Count: 1}
	e.Slots[0].Table = 7
	for _, c := range []struct {
		path  string
		names []string
		want  policy.Action
	}{
		{"/tmp/a", nil, policy.ActAllow}, {"/etc/shadow", nil, policy.ActDeny}, {"/etc/other", nil, policy.ActDeny},
		{"/tmp/link", []string{"/etc/shadow"}, policy.ActDeny}, {"/tmp/link", []string{"/etc/other"}, policy.ActAllow},
		{"/tmp/link", []string{"/tmp/link"}, policy.ActAllow},
	} {
		var j judgement
		if !j.judge(set, &e, c.path, c.names) {
			t.Fatal("the table was not found")
		}
		if got := j.of(policy.Read).decision.Action(); got != c.want {
			t.Errorf("%s with names %v: %v, want %v", c.path, c.names, got, c.want)
		}
		if silent := j.silent(); silent != (j.of(policy.Read).decision.Action() == policy.ActAllow && j.of(policy.Write).decision.Action() == policy.ActAllow) {
			t.Errorf("%s: silent is %v", c.path, silent)
		}
	}
	e.Slots[0].Table = 8
	if new(judgement).judge(set, &e, "/tmp/a", nil) {
		t.Error("a table that there is not judged")
	}
}

func TestFold(t *testing.T) {
	now := time.Unix(0, 0)
	var told []enforce.Report
	f := newFold(func(r enforce.Report) { told = append(told, r) }, func() time.Time { return now })
	v := verdict{answer: answer{decision: policy.Decide(policy.ActDeny, 3), table: 1}, op: policy.Read, key: model.ProcessKey{PID: 5}, path: "/a"}
	other := v
	other.path = "/b"
	for range 5 {
		f.add(v)
	}
	f.add(other)
	if len(told) != 2 || told[0].Count != 1 || told[1].Path != "/b" {
		t.Fatalf("told %+v", told)
	}
	now = now.Add(foldInterval)
	f.add(v)
	if len(told) != 3 || told[2].Count != 5 {
		t.Fatalf("told %+v, want four held back and one", told[2:])
	}
	f.add(v)
	f.flush(false)
	if len(told) != 3 {
		t.Fatalf("told %+v before its time", told[3:])
	}
	now = now.Add(foldInterval)
	f.flush(false)
	if len(told) != 4 || told[3].Count != 1 || len(f.seen) != 0 {
		t.Fatalf("told %+v, remembers %d", told[3:], len(f.seen))
	}
}

// The limits that a policy's status shows are explained in the threat model.
func TestLimitsAreExplained(t *testing.T) {
	page, err := os.ReadFile("../../../docs/threat-model.md")
	if err != nil {
		t.Skip("needs the source tree")
	}
	for _, l := range append(append(execLimits(), openLimits()...), limits()...) {
		name, _, _ := strings.Cut(l, ":")
		if !strings.Contains(string(page), "\n| "+name+" |") {
			t.Errorf("docs/threat-model.md has no row %q", name)
		}
	}
}
