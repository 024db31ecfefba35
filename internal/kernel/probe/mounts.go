// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// mount is one line of /proc/self/mountinfo, as far as it matters here.
type mount struct {
	path, fstype string
	options      []string // of the mount
	super        []string // of the file system
}

func (m mount) readOnly() bool {
	for _, o := range append(m.options, m.super...) {
		if o == "ro" {
			return true
		}
	}
	return false
}

// readMounts parses the format of proc_pid_mountinfo(5).
func readMounts(r io.Reader) []mount {
	var mounts []mount
	for lines := bufio.NewScanner(r); lines.Scan(); {
		before, after, ok := strings.Cut(lines.Text(), " - ")
		head, tail := strings.Fields(before), strings.Fields(after)
		if !ok || len(head) < 6 || len(tail) < 3 {
			continue
		}
		mounts = append(mounts, mount{
			path:    unescapeMount.Replace(head[4]),
			fstype:  tail[0],
			options: strings.Split(head[5], ","),
			super:   strings.Split(tail[2], ","),
		})
	}
	return mounts
}

var unescapeMount = strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`)

func ownMounts() []mount {
	f, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return nil
	}
	defer f.Close()
	return readMounts(f)
}

func mountOf(mounts []mount, fstype string) string {
	for _, m := range mounts {
		if m.fstype == fstype {
			return m.path
		}
	}
	return ""
}

// detached makes a mount of a file system that is in nobody's tree: it ends when its descriptor is
// closed. The descriptor is good for openat only. It takes CAP_SYS_ADMIN and Linux 5.2.
func detached(fstype string) (*os.File, error) {
	fs, err := unix.Fsopen(fstype, unix.FSOPEN_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("open file system %s: %w", fstype, err)
	}
	defer unix.Close(fs)
	if err := unix.FsconfigCreate(fs); err != nil {
		return nil, fmt.Errorf("configure file system %s: %w", fstype, err)
	}
	fd, err := unix.Fsmount(fs, unix.FSMOUNT_CLOEXEC, unix.MOUNT_ATTR_NOSUID|unix.MOUNT_ATTR_NODEV)
	if err != nil {
		return nil, fmt.Errorf("mount file system %s: %w", fstype, err)
	}
	return os.NewFile(uintptr(fd), fstype), nil
}

// readUnmounted reads a file of one of the kernel's file systems, mounted or not.
func readUnmounted(fstype, name string) (string, error) {
	if dir := mountOf(ownMounts(), fstype); dir != "" {
		text, err := os.ReadFile(dir + "/" + name)
		return string(text), err
	}
	dir, err := detached(fstype)
	if err != nil {
		return "", err
	}
	defer dir.Close()
	fd, err := unix.Openat(int(dir.Fd()), name, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return "", fmt.Errorf("open %s of %s: %w", name, fstype, err)
	}
	f := os.NewFile(uintptr(fd), name)
	defer f.Close()
	text, err := io.ReadAll(f)
	return string(text), err
}
