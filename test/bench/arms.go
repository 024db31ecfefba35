// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"syscall"
	"time"

	"github.com/cilium/ebpf"

	"github.com/vigie-io/vigie/internal/testkit/measure"
)

// The arms of a comparison.
const (
	without   = "without"
	withAgent = "with"
	withEmpty = "empty programs"
)

// load is what runs in each arm.
type load struct {
	name string
	unit string // of what is counted
	arms []string
	warm time.Duration // run before each sample and not measured; 0 for none
	run  func(ctx context.Context, d time.Duration) (done, error)
	// flags are the agent's, beside the usual.
	flags []string
	// after sees the agent after it stopped, and how many were done under it. May be nil.
	after func(a *agent, count int) error
}

// sample is one arm of one round.
type sample struct {
	Load  string `json:"load"`
	Arm   string `json:"arm"`
	Round int    `json:"round"`
	Place int    `json:"place"` // in the round
	done
	PerOp    time.Duration `json:"per_op_ns"` // of wall time
	AgentCPU time.Duration `json:"agent_cpu_ns"`
}

// compare runs a load's arms in turn, b.n rounds of them, and then once more with the programs' time measured.
func (b *bench) compare(ctx context.Context, l *load) error {
	// Caches, branch predictors and the disk see the load once before anything counts.
	if _, err := l.run(ctx, max(l.warm, b.sample/2)); err != nil {
		return err
	}
	for round, arms := range measure.Order(b.n, len(l.arms), b.rng) {
		for place, arm := range arms {
			s, err := b.arm(ctx, l, l.arms[arm])
			if err != nil {
				return fmt.Errorf("round %d, %s: %w", round+1, l.arms[arm], err)
			}
			s.Round, s.Place = round, place
			b.results.Samples = append(b.results.Samples, s)
			b.say("  %-6s round %d %-14s %v a %s", l.name, round+1, s.Arm, s.PerOp, l.unit)
		}
	}
	return b.profile(ctx, l)
}

func (b *bench) arm(ctx context.Context, l *load, arm string) (sample, error) {
	switch arm {
	case withAgent:
		return b.underAgent(ctx, l)
	case withEmpty:
		hooks, err := emptyHooks()
		if err != nil {
			return sample{}, err
		}
		s, err := takeSample(ctx, l, arm, b.sample)
		return s, errors.Join(err, hooks.Close())
	}
	return takeSample(ctx, l, arm, b.sample)
}

func takeSample(ctx context.Context, l *load, arm string, d time.Duration) (sample, error) {
	s := sample{Load: l.name, Arm: arm}
	if l.warm > 0 {
		if _, err := l.run(ctx, l.warm); err != nil {
			return s, err
		}
	}
	var err error
	if s.done, err = l.run(ctx, d); err != nil {
		return s, err
	}
	if s.Count == 0 {
		return s, errors.New("the load did nothing in the time of a sample: make it longer with -sample")
	}
	s.PerOp = s.Elapsed / time.Duration(s.Count)
	return s, nil
}

// underAgent measures with an agent that is started for this sample alone.
func (b *bench) underAgent(ctx context.Context, l *load) (s sample, err error) {
	err = b.withAgent(ctx, func(a *agent) error {
		total := 0
		if l.warm > 0 {
			d, err := l.run(ctx, l.warm)
			if err != nil {
				return err
			}
			total = d.Count
		}
		if err := a.caughtUp(); err != nil {
			return err
		}
		before, err := a.cpu()
		if err != nil {
			return err
		}
		unwarmed := *l
		unwarmed.warm = 0
		if s, err = takeSample(ctx, &unwarmed, withAgent, b.sample); err != nil {
			return err
		}
		if err := a.caughtUp(); err != nil {
			return err
		}
		after, err := a.cpu()
		if err != nil {
			return err
		}
		s.AgentCPU = (after - before) / time.Duration(s.Count)
		if err := a.stop(); err != nil || l.after == nil {
			return err
		}
		return l.after(a, total+s.Count)
	}, l.flags...)
	return s, err
}

// profile runs the load once under an agent whose programs the kernel measures, which itself costs time: so it is
// no sample.
func (b *bench) profile(ctx context.Context, l *load) error {
	stats, err := measure.TimePrograms()
	if err != nil {
		return err
	}
	defer stats.Close()
	return b.withAgent(ctx, func(a *agent) error {
		before, err := measure.ProgramsOf(a.pid)
		if err != nil {
			return err
		}
		s, err := takeSample(ctx, &load{name: l.name, run: l.run}, withAgent, b.sample)
		if err != nil {
			return err
		}
		after, err := measure.ProgramsOf(a.pid)
		if err != nil {
			return err
		}
		b.results.Programs = append(b.results.Programs, programTimes{Load: l.name, Count: s.Count, Programs: measure.RanBetween(before, after)})
		return a.stop()
	}, l.flags...)
}

// withAgent starts an agent, hands it to fn, which may stop it, and waits until nothing of it is left in the kernel.
func (b *bench) withAgent(ctx context.Context, fn func(*agent) error, flags ...string) error {
	a, err := startAgent(ctx, b.agent, b.dir, flags...)
	if err != nil {
		return err
	}
	defer a.discard()
	held, err := measure.ProgramsOf(a.pid)
	if err == nil {
		err = fn(a)
	}
	if !a.ended {
		err = errors.Join(err, a.stop())
	}
	return errors.Join(err, awaitGone(held))
}

// awaitGone waits until none of the programs is loaded.
func awaitGone(held map[ebpf.ProgramID]measure.RunStats) error {
	for deadline := time.Now().Add(stopTimeout); ; time.Sleep(10 * time.Millisecond) {
		for id := range held {
			if _, err := measure.ReadProgram(id); errors.Is(err, os.ErrNotExist) {
				delete(held, id)
			}
		}
		if len(held) == 0 {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("%d BPF programs of a stopped agent are still loaded after %v", len(held), stopTimeout)
		}
	}
}

// workers runs j in as many worker processes, which begin together, and adds up what they did.
func (b *bench) workers(ctx context.Context, j job, n int) (done, error) {
	crew := make([]*crewMember, n)
	for i := range crew {
		m, err := b.hire(ctx, j)
		if err != nil {
			return done{}, err
		}
		defer m.dismiss()
		crew[i] = m
	}
	for _, m := range crew {
		if err := m.begin(); err != nil {
			return done{}, err
		}
	}
	var sum done
	rate := 0.0
	for _, m := range crew {
		d, err := m.result()
		if err != nil {
			return done{}, err
		}
		sum.Count += d.Count
		sum.CPU += d.CPU
		sum.Calls = d.Calls // of loads that time them, which run in one worker
		if d.Elapsed > 0 {
			rate += float64(d.Count) / d.Elapsed.Seconds()
		}
	}
	// Workers end within a step of each other; their rates add up.
	if rate > 0 {
		sum.Elapsed = time.Duration(float64(sum.Count) / rate * 1e9)
	}
	return sum, nil
}

// crewMember is a worker process.
type crewMember struct {
	cmd *exec.Cmd
	in  io.WriteCloser
	out *bufio.Reader
	err bytes.Buffer
}

// hire starts a worker and waits until it is ready.
func (b *bench) hire(ctx context.Context, j job) (*crewMember, error) {
	m := &crewMember{cmd: exec.CommandContext(ctx, b.worker, "worker", "-kind", j.kind, "-target", j.target, "-duration", j.duration.String(),
		"-rate", fmt.Sprint(j.rate), "-count", fmt.Sprint(j.count), "-rules", fmt.Sprint(j.rules))}
	// The runtime's preemption signals would interrupt system calls.
	m.cmd.Env = append(os.Environ(), "GODEBUG=asyncpreemptoff=1")
	m.cmd.Stderr = &m.err
	m.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	out, err := m.cmd.StdoutPipe()
	if err == nil {
		m.in, err = m.cmd.StdinPipe()
	}
	if err == nil {
		err = m.cmd.Start()
	}
	if err != nil {
		return nil, fmt.Errorf("start a worker: %w", err)
	}
	m.out = bufio.NewReader(out)
	if line, err := m.out.ReadString('\n'); err != nil || line != "ready\n" {
		m.dismiss()
		return nil, fmt.Errorf("a worker for %s did not get ready: %s", j.kind, m.err.String())
	}
	return m, nil
}

func (m *crewMember) begin() error {
	_, err := io.WriteString(m.in, "go\n")
	return err
}

// result is what the worker did; it may go on to hold what it made until it is dismissed.
func (m *crewMember) result() (done, error) {
	var d done
	line, err := m.out.ReadBytes('\n')
	if err == nil {
		err = json.Unmarshal(line, &d)
	}
	if err != nil {
		m.dismiss()
		return d, fmt.Errorf("a worker failed: %w: %s", err, m.err.String())
	}
	return d, nil
}

// dismiss lets the worker end and waits for it. It may be called again.
func (m *crewMember) dismiss() {
	_ = m.in.Close()
	_ = m.cmd.Wait()
}
