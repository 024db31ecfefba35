// SPDX-License-Identifier: Apache-2.0

package json

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// Rotation says when a file is put aside, as FILE.1, what was FILE.1 as FILE.2, and so on. The zero value never does.
type Rotation struct {
	MaxBytes int64         // a file grows no larger; 0: without bound
	MaxAge   time.Duration // a file is begun anew after this; 0: never
	MaxFiles int           // how many are kept beside the one that is written; older ones are removed
}

// MaxFiles bounds Rotation.MaxFiles: each time all of them are renamed.
const MaxFiles = 1000

// rotate puts the file aside when what is pending would make it too large, or it is too old. When that fails events go on
// into the file that there is: one that is too large is better than none.
func (e *Exporter) rotate(now time.Time) {
	r := e.options.Rotate
	if e.file == nil || e.size == 0 || r.MaxFiles < 1 {
		return
	}
	full := r.MaxBytes > 0 && e.size+int64(len(e.pending)) > r.MaxBytes
	old := r.MaxAge > 0 && now.Sub(e.since) >= r.MaxAge
	if !full && !old {
		return
	}
	if info, err := e.file.Stat(); err != nil || !info.Mode().IsRegular() {
		return
	}
	err := shift(e.options.Path, r.MaxFiles)
	if err == nil {
		err = e.open()
	}
	if err != nil && !e.stuck {
		e.options.Log.Error("the export file can't be put aside: it goes on growing", "path", e.options.Path, "error", err)
	}
	e.stuck = err != nil
}

// shift renames path to path.1, path.1 to path.2, and so on up to keep; what had that number is gone.
func shift(path string, keep int) error {
	if _, err := os.Lstat(path); errors.Is(err, fs.ErrNotExist) {
		return nil // somebody else has put it aside
	}
	name := func(n int) string { return fmt.Sprintf("%s.%d", path, n) }
	last := 1 // the first number that is free
	for last < keep {
		if _, err := os.Lstat(name(last)); err != nil {
			break
		}
		last++
	}
	for n := last; n > 1; n-- {
		if err := os.Rename(name(n-1), name(n)); err != nil {
			return err
		}
	}
	return os.Rename(path, name(1))
}

// begun is how large a file is, and when it was made; now where the file system does not tell.
func begun(f *os.File) (size int64, since time.Time) {
	since = time.Now()
	var x unix.Statx_t
	if unix.Statx(int(f.Fd()), "", unix.AT_EMPTY_PATH, unix.STATX_SIZE|unix.STATX_BTIME, &x) != nil {
		return 0, since
	}
	if x.Mask&unix.STATX_BTIME != 0 {
		since = time.Unix(x.Btime.Sec, int64(x.Btime.Nsec))
	}
	return int64(x.Size), since
}
