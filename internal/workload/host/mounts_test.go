// SPDX-License-Identifier: Apache-2.0

package host

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

func TestParseHierarchies(t *testing.T) {
	for name, c := range map[string]struct {
		mountinfo, cgroup string
		want              []Hierarchy
	}{
		"unified": {
			mountinfo: "35 24 0:30 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate,memory_recursiveprot\n" +
				"36 24 0:31 / /sys/fs/bpf rw - bpf bpf rw,mode=700\n",
			cgroup: "0::/init.scope\n",
			want:   []Hierarchy{{Mount: "/sys/fs/cgroup", Root: "/"}},
		},
		"hybrid, co-mounted controllers": {
			mountinfo: "31 23 0:28 / /sys/fs/cgroup ro - tmpfs tmpfs ro,mode=755\n" +
				"32 31 0:29 / /sys/fs/cgroup/unified rw shared:10 - cgroup2 cgroup2 rw\n" +
				"33 31 0:30 / /sys/fs/cgroup/systemd rw shared:11 - cgroup cgroup rw,xattr,name=systemd\n" +
				"34 31 0:31 / /sys/fs/cgroup/cpu,cpuacct rw shared:12 - cgroup cgroup rw,cpu,cpuacct\n",
			cgroup: "4:cpu,cpuacct:/\n1:name=systemd:/init.scope\n0::/init.scope\n",
			want: []Hierarchy{{Mount: "/sys/fs/cgroup/unified", Root: "/"},
				{ID: 1, Controllers: []string{"name=systemd"}, Mount: "/sys/fs/cgroup/systemd", Root: "/"},
				{ID: 4, Controllers: []string{"cpu", "cpuacct"}, Mount: "/sys/fs/cgroup/cpu,cpuacct", Root: "/"}},
		},
		"in a container: the host's mount shows more than its own": {
			mountinfo: "40 23 0:30 / /sys/fs/cgroup ro - cgroup2 cgroup rw\n" +
				"41 23 0:30 /../.. /host/sys/fs/my\\040cgroup rw - cgroup2 cgroup rw\n" +
				"42 23 0:30 /sub /elsewhere rw - cgroup2 cgroup rw\n",
			cgroup: "0::/\n",
			want:   []Hierarchy{{Mount: "/host/sys/fs/my cgroup", Root: "/../.."}},
		},
		"a bind mount of a part": {
			mountinfo: "42 23 0:30 /docker/x /sys/fs/cgroup/pids ro - cgroup cgroup rw,pids\n" +
				"43 23 0:30 / /host/pids ro - cgroup cgroup rw,pids\n" + "broken line\n\n",
			cgroup: "8:pids:/docker/x\nbroken\n",
			want:   []Hierarchy{{ID: 8, Controllers: []string{"pids"}, Mount: "/host/pids", Root: "/"}},
		},
	} {
		got, err := parseHierarchies(strings.NewReader(c.mountinfo), strings.NewReader(c.cgroup))
		if err != nil || !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s: %v\n got %+v\nwant %+v", name, err, got, c.want)
		}
	}
	if _, err := parseHierarchies(strings.NewReader("27 1 254:0 / / rw - ext4 /dev/vda rw\n"), strings.NewReader("0::/\n")); err == nil {
		t.Error("no error without a cgroup mount")
	}
}

func TestInContainer(t *testing.T) {
	for _, c := range []struct {
		ns, cgroup string
		want       bool
	}{
		{initCgroupNamespace, "4:memory:/process_api/1\n0::/system.slice/vigie.service\n", false},
		{"cgroup:[4026532500]", "0::/\n", true},
		{initCgroupNamespace, "0::/system.slice/docker-" + idA + ".scope\n", true},
		{initCgroupNamespace, "", false},
	} {
		proc := t.TempDir()
		if err := os.MkdirAll(filepath.Join(proc, "self/ns"), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(c.ns, filepath.Join(proc, "self/ns/cgroup")); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(proc, "self/cgroup"), []byte(c.cgroup), 0o644); err != nil {
			t.Fatal(err)
		}
		if got := InContainer(proc); got != c.want {
			t.Errorf("%+v: got %v", c, got)
		}
	}
}

func TestMountRoots(t *testing.T) {
	for _, c := range []struct{ root, rel, want string }{
		{"/", "", "/"},
		{"/", "/a/b", "/a/b"},
		{"/../..", "/a", "/a"},
		{"/docker/x", "/sub", "/docker/x/sub"},
	} {
		if got := (mount{Hierarchy: Hierarchy{Root: c.root}}).abs(c.rel); got != c.want {
			t.Errorf("%+v: got %q", c, got)
		}
	}
}
