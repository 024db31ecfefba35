// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"syscall"
	"time"
)

// job is what a worker is told to do. Loops end at the earlier of duration and count.
type job struct {
	kind     string
	target   string // exec, pause: program; open: folder
	duration time.Duration
	rate     float64 // a second; 0 as fast as it goes
	count    int
	rules    int // detect: how many

	out   io.Writer // of the worker, for loads that tell something while they run
	calls *calls    // set by loads that time single calls
}

// done is what a worker did.
type done struct {
	Count   int           `json:"count"`
	Elapsed time.Duration `json:"elapsed_ns"`
	CPU     time.Duration `json:"cpu_ns"` // its own and its children's
	Calls   *distribution `json:"calls,omitempty"`
}

// work is a worker process: it says "ready" on its standard output, begins when its standard input says so, and
// writes what it did. Its thread must be locked: children die with the thread that started them.
func work(args []string, in io.Reader, out io.Writer) error {
	j := job{out: out}
	fs := flag.NewFlagSet("worker", flag.ContinueOnError)
	fs.StringVar(&j.kind, "kind", "", "")
	fs.StringVar(&j.target, "target", "", "")
	fs.DurationVar(&j.duration, "duration", 0, "")
	fs.Float64Var(&j.rate, "rate", 0, "")
	fs.IntVar(&j.count, "count", 0, "")
	fs.IntVar(&j.rules, "rules", 0, "")
	if err := fs.Parse(args); err != nil {
		return err
	}
	step, finish, err := j.prepare(in)
	if err != nil {
		return err
	}
	defer finish()
	if _, err := io.WriteString(out, "ready\n"); err != nil {
		return err
	}
	if err := awaitLine(in); err != nil {
		return fmt.Errorf("wait for the start: %w", err)
	}
	d, err := j.loop(step)
	if err != nil {
		return err
	}
	if err := json.NewEncoder(out).Encode(d); err != nil {
		return err
	}
	return nil
}

// prepare makes what one step of the load is, and what to do in the end.
func (j *job) prepare(in io.Reader) (step func() error, finish func(), err error) {
	switch j.kind {
	case "exec":
		return execStep(j.target)
	case "pause":
		return pauseStep(j.target, in)
	case "open":
		return openStep(j.target)
	case "rr":
		return roundTripStep()
	case "http":
		return httpStep()
	case "storm":
		return connectStep()
	case "timed open":
		return j.timedOpenStep(0)
	case "timed denial":
		return j.timedOpenStep(syscall.EPERM)
	case "timed connect":
		return j.timedConnectStep()
	case "timed datagram":
		return j.timedDatagramStep()
	case "timed wake":
		return j.timedWakeStep()
	case "watch":
		return j.watchStep()
	case "detect":
		return j.detectStep()
	case "flow":
		return j.flowStep()
	case "flow table":
		return j.flowTableStep(in)
	}
	return nil, nil, fmt.Errorf("no load %q", j.kind)
}

// loop runs step. With a rate it catches up after a delay, so that the rate holds over the whole.
func (j *job) loop(step func() error) (done, error) {
	var d done
	const checkEvery = 16 // steps between looks at the clock: a look costs a share of the cheapest step
	cpu := cpuOfSelfAndChildren()
	start := time.Now()
	for j.count == 0 || d.Count < j.count {
		if j.rate > 0 || d.Count%checkEvery == 0 {
			elapsed := time.Since(start)
			if j.duration > 0 && elapsed >= j.duration {
				break
			}
			if ahead := time.Duration(float64(d.Count)/j.rate*1e9) - elapsed; j.rate > 0 && ahead > 200*time.Microsecond {
				time.Sleep(ahead)
			}
		}
		if err := step(); err != nil {
			return d, err
		}
		d.Count++
	}
	d.Elapsed = time.Since(start)
	d.CPU = cpuOfSelfAndChildren() - cpu
	d.Calls = j.calls.distribution()
	return d, nil
}

func cpuOfSelfAndChildren() time.Duration {
	var sum time.Duration
	for _, who := range []int{syscall.RUSAGE_SELF, syscall.RUSAGE_CHILDREN} {
		var u syscall.Rusage
		if syscall.Getrusage(who, &u) == nil {
			sum += time.Duration(u.Utime.Nano() + u.Stime.Nano())
		}
	}
	return sum
}

// awaitLine reads up to a newline, byte by byte: nothing after it is taken.
func awaitLine(r io.Reader) error {
	var b [1]byte
	for {
		switch _, err := r.Read(b[:]); {
		case err != nil:
			return err
		case b[0] == '\n':
			return nil
		}
	}
}

// execStep starts a program and waits for its end.
func execStep(target string) (func() error, func(), error) {
	s, err := newSpawner(target)
	if err != nil {
		return nil, nil, err
	}
	return func() error {
		pid, err := s.start()
		if err != nil {
			return err
		}
		return wait(pid)
	}, func() {}, nil
}

// pauseStep starts programs that stay until the standard input ends.
func pauseStep(target string, in io.Reader) (func() error, func(), error) {
	s, err := newSpawner(target)
	if err != nil {
		return nil, nil, err
	}
	var pids []int
	return func() error {
			pid, err := s.start()
			if err == nil {
				pids = append(pids, pid)
			}
			return err
		}, func() {
			if len(pids) > 0 {
				_, _ = io.Copy(io.Discard, in)
			}
			for _, pid := range pids {
				_ = syscall.Kill(pid, syscall.SIGKILL)
			}
			for _, pid := range pids {
				_ = wait(pid) // killed, as asked
			}
		}, nil
}

// isWorker reports whether this process was started as a worker.
func isWorker(args []string) bool { return len(args) > 1 && args[1] == "worker" }

var errNoFiles = errors.New("no files to open: the folder is empty")

func filesIn(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("list the files to open: %w", err)
	}
	if len(entries) == 0 {
		return nil, errNoFiles
	}
	names := make([]string, len(entries))
	for i, e := range entries {
		names[i] = dir + "/" + e.Name()
	}
	return names, nil
}
