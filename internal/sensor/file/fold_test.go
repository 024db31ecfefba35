// SPDX-License-Identifier: Apache-2.0

package file

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/vigie-io/vigie/internal/model"
	"github.com/vigie-io/vigie/internal/testkit"
)

// makeFiles makes n files and returns their paths.
func makeFiles(t *testing.T, n int) []string {
	t.Helper()
	p := place{t: t, dir: testkit.RealPath(t, t.TempDir())}
	files := make([]string, n)
	for i := range files {
		files[i] = p.make("f" + strconv.Itoa(i))
	}
	return files
}

func below(dir string) func(*model.Event) bool {
	return func(e *model.Event) bool { return e.File != nil && strings.HasPrefix(e.File.Path, dir) }
}

func sum(events []*model.Event) (n int) {
	for _, e := range events {
		n += int(e.Count)
	}
	return n
}

// awaitSum waits until the counts of the events that match add up to want, and returns the events.
func awaitSum(t *testing.T, k *testkit.Kernel, want int, match func(*model.Event) bool) []*model.Event {
	t.Helper()
	var events []*model.Event
	for end := time.Now().Add(testkit.Deadline); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		if events = k.Events(match); sum(events) >= want {
			break
		}
	}
	if got := sum(events); got != want {
		t.Fatalf("%d events stand for %d opens, want %d", len(events), got, want)
	}
	return events
}

// fakeCounts are counts as the kernel keeps them.
type fakeCounts map[bpfVgFoldKey]uint64

func (c fakeCounts) read(k bpfVgFoldKey) (uint64, bool, error) {
	n, ok := c[k]
	return n, ok, nil
}

func (c fakeCounts) remove(k bpfVgFoldKey) (uint64, bool, error) {
	n, ok := c[k]
	delete(c, k)
	return n, ok, nil
}

func TestCountsAreReportedAtTheIntervalAndRemovedWhenIdle(t *testing.T) {
	const interval = 10 * time.Second
	s := newFolds()
	ev := &model.Event{Key: model.ProcessKey{PID: 7, Start: 70, Exec: 1}, TID: 8}
	rec := &bpfVgFile{Inode: 5, Dev: 6, Name: 9, Op: uint8(bpfVgFileOpVG_FILE_READ)}
	rec.H.Pid, rec.H.Start, rec.H.Exec = 7, 70, 1
	file := &model.File{Op: model.FileRead, Path: "/f"}
	s.hold(rec, ev, file)
	s.hold(rec, ev, file) // another thread at the same moment
	key := bpfVgFoldKey{Start: 70, Inode: 5, Pid: 7, Exec: 1, Dev: 6, Name: 9, Op: uint32(bpfVgFileOpVG_FILE_READ)}
	kernel := fakeCounts{key: 3}

	for _, step := range []struct {
		what    string
		now     uint64
		opens   uint64 // since the step before
		final   bool
		want    []uint32
		removed bool
	}{
		{"before the interval", uint64(interval) - 1, 0, false, nil, false},
		{"at the interval", uint64(interval), 1, false, []uint32{4}, false},
		{"right after", uint64(interval) + 1, 5, false, nil, false},
		{"at the end", uint64(interval) + 2, 0, true, []uint32{5}, false},
		{"idle for an interval", 2*uint64(interval) + 2, 0, false, nil, true},
	} {
		kernel[key] += step.opens
		var got []uint32
		err := s.flush(kernel, step.now, interval, step.final, func(e *model.Event) {
			got = append(got, e.Count)
			if e.Key != ev.Key || e.TID != 8 || e.BootTime != step.now || e.File != file || e.Type != model.TypeFile {
				t.Errorf("%s: %+v", step.what, e)
			}
		})
		if err != nil || !slices.Equal(got, step.want) {
			t.Errorf("%s: counts %v, error %v, want %v", step.what, got, err, step.want)
		}
		if _, there := kernel[key]; there == step.removed {
			t.Errorf("%s: count in the kernel's table: %v", step.what, there)
		}
	}
	if len(s.byProcess) != 0 {
		t.Errorf("still held: %v", s.byProcess)
	}
}

func checkNoLoss(t *testing.T, k *testkit.Kernel) {
	t.Helper()
	if err := k.Host.ReadLosses(); err != nil {
		t.Fatal(err)
	}
	for _, l := range k.Losses.Snapshot() {
		if l.Count > 0 && l.Reason != "compat syscall" {
			t.Errorf("%d lost: %s, %s", l.Count, l.Stage, l.Reason)
		}
	}
}

func TestOpensAreCountedUntilTheProcessEnds(t *testing.T) {
	const files, each = 4, 25_000
	k := testkit.StartSensor(t, New(Options{Interval: time.Hour}))
	names := makeFiles(t, files)
	match := below(names[0][:strings.LastIndexByte(names[0], '/')])
	pid, end := startChild(t, append([]string{"open", strconv.Itoa(each), "1"}, names...)...)
	mine := func(e *model.Event) bool { return match(e) && e.Key.PID == pid }

	for _, e := range awaitSum(t, k, files, mine) {
		if e.File.Op != model.FileRead || e.Count != 1 {
			t.Errorf("first open is %+v, count %d", e.File, e.Count)
		}
	}
	end()
	events := awaitSum(t, k, files*each, mine)
	if len(events) != 2*files {
		t.Errorf("%d opens made %d events, want the first of each file and a count", files*each, len(events))
	}
	for _, e := range events {
		if e.Count != 1 && e.Count != each-1 {
			t.Errorf("%s: an event stands for %d opens, want 1 or %d", e.File.Path, e.Count, each-1)
		}
	}
	checkNoLoss(t, k)
}

func TestOpensAreCountedWhileTheProcessLives(t *testing.T) {
	const files, each, threads = 8, 4_000, 3
	k := testkit.StartSensor(t, New(Options{Interval: time.Nanosecond}))
	names := makeFiles(t, files)
	pid, _ := startChild(t, append([]string{"open", strconv.Itoa(each), strconv.Itoa(threads)}, names...)...)
	for _, name := range names {
		awaitSum(t, k, each*threads, func(e *model.Event) bool {
			return e.File != nil && e.File.Path == name && e.Key.PID == pid
		})
	}
	checkNoLoss(t, k)
}

func TestFullTablesLoseNothing(t *testing.T) {
	const files, each = 200, 50
	s := New(Options{Interval: time.Nanosecond})
	s.seenEntries, s.countEntries = 64, 8
	k := testkit.StartSensor(t, s)
	names := makeFiles(t, files)
	pid, end := startChild(t, append([]string{"open", strconv.Itoa(each), "2"}, names...)...)
	end()
	awaitSum(t, k, files*each*2, func(e *model.Event) bool {
		return below(names[0][:strings.LastIndexByte(names[0], '/')])(e) && e.Key.PID == pid
	})
	checkNoLoss(t, k)
}

func TestAnExecBeginsAnew(t *testing.T) {
	k := testkit.StartSensor(t, New(Options{Interval: time.Hour}))
	name := makeFiles(t, 1)[0]
	pid, end := startChild(t, "open-exec", name)
	end()
	firsts := map[uint32]int{}
	// The first image's count is reported at the interval, that of the second when the process ends.
	for _, e := range awaitSum(t, k, 1+3, func(e *model.Event) bool {
		return e.File != nil && e.File.Path == name && e.Key.PID == pid
	}) {
		firsts[e.Key.Exec]++
	}
	if len(firsts) != 2 {
		t.Errorf("opens by execs %v, want two images", firsts)
	}
}

func TestPathsBeginAtTheProcessRoot(t *testing.T) {
	k := testkit.StartSensor(t, New(Options{}))
	name := makeFiles(t, 1)[0]
	dir := name[:strings.LastIndexByte(name, '/')]
	pid, _ := startChild(t, "chroot", dir, "/f0")
	ev := k.Await(t, "the open in the new root", func(e *model.Event) bool {
		return e.File != nil && e.File.Path == "/f0" && e.Key.PID == pid
	})
	var st unix.Stat_t
	if err := unix.Stat(name, &st); err != nil {
		t.Fatal(err)
	}
	if ev.File.Inode != st.Ino {
		t.Errorf("inode %d, want %d", ev.File.Inode, st.Ino)
	}
}

func TestLongPaths(t *testing.T) {
	k := testkit.StartSensor(t, New(Options{}))
	for _, c := range []struct {
		depth, name int
		cut         bool
	}{{20, 250, false}, {140, 10, true}} {
		dir := testkit.RealPath(t, t.TempDir())
		name := strings.Repeat("n", c.name)
		pid, _ := startChild(t, "deep", dir, strconv.Itoa(c.depth), name)
		for _, op := range []model.FileOp{model.FileCreate, model.FileUnlink} {
			ev := k.Await(t, fmt.Sprintf("%s below %d directories", op, c.depth), func(e *model.Event) bool {
				return e.File != nil && e.Key.PID == pid && e.File.Op == op && strings.HasSuffix(e.File.Path, "/leaf")
			})
			whole := dir + strings.Repeat("/"+name, c.depth) + "/leaf"
			got := ev.File.Path
			if c.cut {
				if rest, ok := strings.CutPrefix(got, "…"); !ok || !strings.HasSuffix(whole, rest) || len(rest) < 1000 {
					t.Errorf("%s: %d bytes, want the end of the path after …: %.40q", op, len(got), got)
				}
			} else if got != whole {
				t.Errorf("%s: path of %d bytes, want %d", op, len(got), len(whole))
			}
		}
	}
}

func TestDeniedOpensAreReported(t *testing.T) {
	k := testkit.StartSensor(t, New(Options{}))
	p := place{t: t, dir: "/tmp"}
	name := fmt.Sprintf("vigie-denied-%d", testkit.PID())
	p.make(name)
	t.Cleanup(func() { _ = unix.Unlink(p.at(name)) })
	if err := unix.Chmod(p.at(name), 0o600); err != nil {
		t.Fatal(err)
	}
	pid, _ := startChild(t, "denied", p.at(name))
	for _, op := range []model.FileOp{model.FileRead, model.FileWrite} {
		ev := k.Await(t, "the denied "+string(op), func(e *model.Event) bool {
			return e.File != nil && e.Key.PID == pid && e.File.Op == op && e.File.Path == p.at(name)
		})
		if ev.File.Error != model.Errno(unix.EACCES) || ev.File.PathFrom != "argument" {
			t.Errorf("%+v", ev.File)
		}
	}
	if got := k.Events(func(e *model.Event) bool { return e.File != nil && strings.HasSuffix(e.File.Path, "/not there") }); len(got) > 0 {
		t.Errorf("an open of what is not there was reported: %+v", got[0].File)
	}
}
