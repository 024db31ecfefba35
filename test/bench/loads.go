// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"time"

	"github.com/vigie-io/vigie/internal/testkit/measure"
)

// benchmark is a part of the run that can be chosen by name.
type benchmark struct {
	name string
	run  func(*bench, context.Context) error
}

// benchmarks lists all in the order in which they run.
func benchmarks() []benchmark {
	return []benchmark{
		{"exec", (*bench).execFullRate},
		{"open", (*bench).opens},
		{"rr", (*bench).roundTrips},
		{"requests", (*bench).requests},
		{"compile", (*bench).compile},
		{"steady", (*bench).steadyExec},
		{"storm", (*bench).connectStorm},
		{"start", (*bench).starts},
		{"idle", (*bench).idling},
		{"memory", (*bench).manyProcesses},
		{"policies", (*bench).policySizes},
		{"rung", (*bench).lowestRung},
		{"others", (*bench).bystanders},
		{"apply", (*bench).applies},
		{"workloads", (*bench).manyWorkloads},
		{"detect", (*bench).detections},
		{"history", (*bench).history},
		{"flow", (*bench).flowCost},
		{"follow", (*bench).flowFollow},
		{"table", (*bench).flowMemory},
		{"scan", (*bench).scans},
	}
}

func names() []string {
	var out []string
	for _, x := range benchmarks() {
		out = append(out, x.name)
	}
	return out
}

// warmUp is how long a load runs before a sample.
const warmUp = 300 * time.Millisecond

func (b *bench) execFullRate(ctx context.Context) error {
	seen := &b.results.FullRate
	return b.compare(ctx, &load{name: "exec", unit: "exec+exit pair", arms: []string{without, withAgent, withEmpty}, warm: warmUp,
		run: func(ctx context.Context, d time.Duration) (done, error) {
			return b.workers(ctx, job{kind: "exec", target: b.exit, duration: d}, runtime.NumCPU())
		},
		after: func(a *agent, count int) error {
			t, err := countFile(a.json, b.worker, b.exit)
			if err != nil {
				return err
			}
			seen.add(uint64(count), t)
			return nil
		}})
}

func (b *bench) opens(ctx context.Context) error {
	for _, x := range []struct {
		name  string
		files int
	}{{"open", 1}, {"open many", 1000}} {
		dir := filepath.Join(b.dir, x.name)
		if err := makeFiles(dir, x.files); err != nil {
			return err
		}
		if err := b.compare(ctx, &load{name: x.name, unit: "open+close", arms: []string{without, withAgent, withEmpty}, warm: warmUp,
			run: func(ctx context.Context, d time.Duration) (done, error) {
				return b.workers(ctx, job{kind: "open", target: dir, duration: d}, 1)
			}}); err != nil {
			return err
		}
	}
	return nil
}

func makeFiles(dir string, n int) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("make the folder of files to open: %w", err)
	}
	for i := range n {
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprintf("file-%04d", i)), nil, 0o644); err != nil {
			return fmt.Errorf("make a file to open: %w", err)
		}
	}
	return nil
}

func (b *bench) roundTrips(ctx context.Context) error {
	return b.compare(ctx, &load{name: "rr", unit: "request and response", arms: []string{without, withAgent, withEmpty}, warm: warmUp,
		run: func(ctx context.Context, d time.Duration) (done, error) {
			return b.workers(ctx, job{kind: "rr", duration: d}, 1)
		}})
}

func (b *bench) compile(ctx context.Context) error {
	return b.compare(ctx, &load{name: "compile", unit: "build", arms: []string{without, withAgent},
		run: func(ctx context.Context, _ time.Duration) (done, error) { return b.build(ctx) }})
}

// build compiles the packages and all that they import with an empty cache.
func (b *bench) build(ctx context.Context) (done, error) {
	cache, err := os.MkdirTemp(b.dir, "gocache-")
	if err != nil {
		return done{}, fmt.Errorf("make a build cache: %w", err)
	}
	defer os.RemoveAll(cache)
	cmd := exec.CommandContext(ctx, "go", append([]string{"build", "-a"}, b.packages...)...)
	cmd.Dir = b.dir
	cmd.Env = append(os.Environ(), "GOCACHE="+cache, "CGO_ENABLED=0", "GOFLAGS=", "GO111MODULE=off")
	start := time.Now()
	out, err := cmd.CombinedOutput()
	if err != nil {
		return done{}, fmt.Errorf("go build -a %v: %w: %s", b.packages, err, out)
	}
	return done{Count: 1, Elapsed: time.Since(start), CPU: cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()}, nil
}

// The rates of the runs in which nothing may be lost, a second.
const (
	steadyRate = 5000
	stormRate  = 20000
)

func (b *bench) steadyExec(ctx context.Context) error {
	s, err := b.told(ctx, job{kind: "exec", target: b.exit, duration: b.steady, rate: steadyRate})
	b.results.Steady = s
	return err
}

func (b *bench) connectStorm(ctx context.Context) error {
	s, err := b.told(ctx, job{kind: "storm", duration: b.storm, rate: stormRate})
	b.results.Storm = s
	return err
}

// told runs j on all cores under an agent and counts what its export tells of it.
func (b *bench) told(ctx context.Context, j job) (*seen, error) {
	var s *seen
	cores := runtime.NumCPU()
	j.rate /= float64(cores)
	err := b.withAgent(ctx, func(a *agent) error {
		before, err := a.cpu()
		if err != nil {
			return err
		}
		d, err := b.workers(ctx, j, cores)
		if err != nil {
			return err
		}
		if err := a.caughtUp(); err != nil {
			return err
		}
		after, err := a.cpu()
		if err != nil {
			return err
		}
		held, err := measure.ProgramsOf(a.pid)
		if err != nil {
			return err
		}
		// What is folded is told when it is flushed; the last of it when the agent stops.
		if err := a.stop(); err != nil {
			return err
		}
		t, err := countFile(a.json, b.worker, b.exit)
		if err != nil {
			return err
		}
		s = &seen{AgentCPU: (after - before) / time.Duration(max(d.Count, 1)), Rate: float64(d.Count) / d.Elapsed.Seconds(), For: d.Elapsed, Skipped: measure.Skipped(held)}
		s.add(uint64(d.Count), t)
		b.say("  %.0f a second: %+v", s.Rate, *s)
		return nil
	})
	return s, err
}

// startProcesses is how many run while the agent's start is measured.
const startProcesses = 1000

func (b *bench) starts(ctx context.Context) error {
	crowd, err := b.crowd(ctx, startProcesses)
	if err != nil {
		return err
	}
	defer crowd.dismiss()
	for i := range max(b.n, 1) {
		var s start
		t := time.Now()
		if err := exec.CommandContext(ctx, b.agent, "version").Run(); err != nil {
			return fmt.Errorf("run the agent's version command: %w", err)
		}
		s.Version = time.Since(t)
		if err := b.startWatched(ctx, &s); err != nil {
			return err
		}
		b.results.Starts = append(b.results.Starts, s)
		b.say("  start %d: first line %v, ready %v, CPU %v, `vigie version` %v", i+1, s.FirstLine, s.Ready, s.CPU, s.Version)
	}
	return nil
}

// startWatched starts an agent and looks, every millisecond, whether its export has a line.
func (b *bench) startWatched(ctx context.Context, s *start) error {
	first := make(chan time.Time, 1)
	watch, stop := context.WithCancel(ctx)
	defer stop()
	go func() {
		for watch.Err() == nil {
			// Agents that ran before have taken their folders along.
			found, _ := filepath.Glob(filepath.Join(b.dir, "agent-*", "events.json"))
			if len(found) == 1 {
				if fi, err := os.Stat(found[0]); err == nil && fi.Size() > 0 {
					first <- time.Now()
					return
				}
			}
			time.Sleep(time.Millisecond)
		}
	}()
	return b.withAgent(ctx, func(a *agent) (err error) {
		s.Ready = a.ready
		if s.CPU, err = a.cpu(); err != nil {
			return err
		}
		select {
		case at := <-first:
			s.FirstLine = at.Sub(a.started)
			return nil
		case <-time.After(readyTimeout):
			return fmt.Errorf("the export had no line %v after the agent was ready", readyTimeout)
		}
	})
}

// crowd is many processes that do nothing.
func (b *bench) crowd(ctx context.Context, n int) (*crewMember, error) {
	m, err := b.hire(ctx, job{kind: "pause", target: b.pause, count: n})
	if err == nil {
		err = m.begin()
	}
	if err == nil {
		_, err = m.result()
	}
	if err != nil {
		return nil, fmt.Errorf("start %d processes: %w", n, err)
	}
	return m, nil
}
