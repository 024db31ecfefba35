// SPDX-License-Identifier: Apache-2.0

package shop

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// unit is a workload as systemd makes one: a cgroup with a unit's name in a slice.
type unit struct{ dir string }

// newUnit makes the cgroup. One that is there already is somebody else's: nothing is put into it.
func newUnit(slice, name string) (*unit, error) {
	root, err := cgroup2()
	if err != nil {
		return nil, err
	}
	parent := filepath.Join(root, slice)
	if err := os.Mkdir(parent, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, fmt.Errorf("make a slice: %w", err)
	}
	u := &unit{dir: filepath.Join(parent, name)}
	if err := os.Mkdir(u.dir, 0o755); err != nil {
		return nil, fmt.Errorf("make a unit: %w; remove what an earlier run left: rmdir %s", err, u.dir)
	}
	return u, nil
}

// cgroup2 is where cgroup v2 is mounted.
func cgroup2() (string, error) {
	for _, dir := range []string{"/sys/fs/cgroup", "/sys/fs/cgroup/unified"} {
		var at unix.Statfs_t
		if unix.Statfs(dir, &at) == nil && at.Type == unix.CGROUP2_SUPER_MAGIC {
			return dir, nil
		}
	}
	return "", errors.New("cgroup v2 is not mounted")
}

// kill ends all processes of the unit.
func (u *unit) kill() { _ = os.WriteFile(filepath.Join(u.dir, "cgroup.kill"), []byte("1"), 0) }

// remove takes the unit away, and its slice when that is empty.
func (u *unit) remove() {
	for end := time.Now().Add(5 * time.Second); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		if err := os.Remove(u.dir); err == nil || errors.Is(err, fs.ErrNotExist) {
			break
		}
		u.kill()
	}
	_ = os.Remove(filepath.Dir(u.dir))
}
