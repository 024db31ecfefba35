// SPDX-License-Identifier: Apache-2.0

package fanotify

import (
	"bufio"
	"bytes"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Mount is a mounted file system, as a mount namespace has it.
type Mount struct {
	ID     uint64
	Device uint64 // of the file system
	Point  string // where it is mounted, from the namespace's root
	Root   string // what of the file system is mounted there
	FSType string // "ext4", "overlay", …
}

// canAnswer says whether an agent can promise to answer for files of a kind of file system. It cannot where opening a file for the
// event waits for somebody else (a server, a FUSE daemon: who may himself be waiting for the answer) or does something
// (a device). And the kernel's own file systems make their inodes as they like.
func canAnswer(fsType string) bool {
	kind, _, _ := strings.Cut(fsType, ".") // fuse.sshfs
	return !slices.Contains([]string{
		"fuse", "fuseblk", "virtiofs", "nfs", "nfs4", "cifs", "smb3", "ceph", "9p", "afs", "coda", "orangefs", "lustre", "gfs2", "ocfs2", "autofs",
		"devtmpfs", "devpts", "proc", "sysfs", "cgroup", "cgroup2", "bpf", "debugfs", "tracefs", "securityfs", "configfs", "pstore",
		"efivarfs", "mqueue", "hugetlbfs", "binfmt_misc", "fusectl", "nsfs", "rpc_pipefs", "selinuxfs", "resctrl", "binder",
	}, kind)
}

// parseMounts reads /proc/PID/mountinfo (proc(5)); of mounts at the same place the last one is on top. Lines that it
// cannot read are left out.
func parseMounts(text []byte) []Mount {
	var out []Mount
	lines := bufio.NewScanner(bytes.NewReader(text))
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		before, after, ok := strings.Cut(lines.Text(), " - ")
		f := strings.Fields(before)
		if !ok || len(f) < 5 {
			continue
		}
		fsType, _, _ := strings.Cut(after, " ")
		id, err := strconv.ParseUint(f[0], 10, 64)
		major, minor, ok := strings.Cut(f[2], ":")
		maj, err2 := strconv.ParseUint(major, 10, 32)
		min, err3 := strconv.ParseUint(minor, 10, 32)
		if err != nil || err2 != nil || err3 != nil || !ok {
			continue
		}
		out = append(out, Mount{ID: id, Device: unix.Mkdev(uint32(maj), uint32(min)), Point: unescape(f[4]), Root: unescape(f[3]), FSType: fsType})
	}
	return out
}

// unescape undoes mountinfo's octal escapes of space, tab, newline and backslash.
func unescape(s string) string {
	if !strings.Contains(s, `\`) {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+3 < len(s) {
			if c, err := strconv.ParseUint(s[i+1:i+4], 8, 8); err == nil {
				b.WriteByte(byte(c))
				i += 3
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

// below reports whether p is dir or lies below it.
func below(p, dir string) bool {
	return p == dir || dir == "/" || strings.HasPrefix(p, dir+"/")
}
