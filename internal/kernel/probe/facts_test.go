// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"os"
	"reflect"
	"strings"
	"testing"
	"unsafe"
)

func TestCgroupFacts(t *testing.T) {
	const v1 = "31 30 0:27 / /sys/fs/cgroup/cpu rw,relatime shared:9 - cgroup cgroup rw,cpu\n"
	const v2 = "42 30 0:38 / %s %s,nosuid - cgroup2 cgroup2 rw,nsdelegate\n"
	line := func(path, mode string) string { return strings.NewReplacer("%s %s", path+" "+mode).Replace(v2) }
	for name, c := range map[string]struct {
		mountinfo string
		want      CgroupFacts
	}{
		"v2":        {line("/sys/fs/cgroup", "rw"), CgroupFacts{Mode: "v2", V2Path: "/sys/fs/cgroup"}},
		"hybrid":    {v1 + line("/sys/fs/cgroup/unified", "rw"), CgroupFacts{Mode: "hybrid", V2Path: "/sys/fs/cgroup/unified"}},
		"v1":        {v1, CgroupFacts{Mode: "v1"}},
		"none":      {"", CgroupFacts{Mode: "none"}},
		"read-only": {line("/sys/fs/cgroup", "ro"), CgroupFacts{Mode: "v2", V2Path: "/sys/fs/cgroup", ReadOnly: true}},
		"space":     {line(`/a\040b`, "rw"), CgroupFacts{Mode: "v2", V2Path: "/a b"}},
		"garbage":   {"not a line\n- -\n" + v1, CgroupFacts{Mode: "v1"}},
	} {
		if got := cgroupFacts(readMounts(strings.NewReader(c.mountinfo))); got != c.want {
			t.Errorf("%s: %+v, want %+v", name, got, c.want)
		}
	}
}

func TestOlderThan(t *testing.T) {
	for _, c := range []struct {
		kernel, release string
		older           bool
	}{
		{"6.1.0-18-amd64", "6.6", true}, {"6.6.1", "6.6", false}, {"6.18.44-x", "6.6", false}, {"5.15.0", "6.1", true},
		{"6.10.0", "6.9", false}, {"unreadable", "6.9", false}, {"6.1.0", "", false},
	} {
		if got := (&Facts{Kernel: c.kernel}).olderThan(c.release); got != c.older {
			t.Errorf("%s older than %s: %v", c.kernel, c.release, got)
		}
	}
}

func TestParseConfig(t *testing.T) {
	config := parseConfig(strings.NewReader("# comment\nCONFIG_BPF=y\n# CONFIG_KPROBES is not set\nCONFIG_NET_CLS_BPF=m\n"))
	f := &Facts{config: config}
	for options, want := range map[string]string{"BPF": "", "NET_CLS_BPF": "", "KPROBES": "CONFIG_KPROBES", "BPF KPROBES": "CONFIG_KPROBES", "": ""} {
		if got := f.notBuilt(options); got != want {
			t.Errorf("not built of %q: %q, want %q", options, got, want)
		}
	}
	if parseConfig(strings.NewReader("no options\n")) != nil {
		t.Error("a file without options is taken for a configuration")
	}
}

func TestFactsOfThisHost(t *testing.T) {
	f := readFacts()
	release, err := os.ReadFile("/proc/sys/kernel/osrelease")
	if err != nil {
		t.Fatal(err)
	}
	if f.Kernel != strings.TrimSpace(string(release)) || f.UID != os.Geteuid() {
		t.Errorf("kernel %q, uid %d", f.Kernel, f.UID)
	}
	if len(f.Capabilities.Effective) == 0 && f.UID == 0 {
		t.Error("root without any capability")
	}
}

// The place in the file must hold the bytes that are in memory.
func TestFileOffset(t *testing.T) {
	pc := reflect.ValueOf(uprobed).Pointer()
	offset, err := fileOffset(pc)
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(ownProgram)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	inFile := make([]byte, 16)
	if _, err := f.ReadAt(inFile, int64(offset)); err != nil {
		t.Fatal(err)
	}
	fn := uprobed
	code := **(**unsafe.Pointer)(unsafe.Pointer(&fn)) // a function value points to a word that points to the code
	if inMemory := unsafe.Slice((*byte)(code), len(inFile)); string(inMemory) != string(inFile) {
		t.Errorf("memory %x, file %x", inMemory, inFile)
	}
}
