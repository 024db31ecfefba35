// SPDX-License-Identifier: Apache-2.0

// Package probe finds out what this kernel really lets the agent do. In goes a running kernel; out
// comes, for every program kind, map, helper, kfunc and hook that vigie may use, whether it works
// here, the true cause when it does not, and from that the ladder: how each job of vigie is done on
// this host and how strong the result is.
//
// Nothing is concluded from version numbers, BTF or the list of security modules: each test loads a
// program of a few instructions of exactly that kind and, where loading proves little, attaches it
// to something harmless, makes it run where that is cheap, and removes it. Versions, kernel
// configuration and capabilities serve only to explain a failure after it happened.
package probe

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"strings"
	"sync"

	"golang.org/x/sync/errgroup"
)

// Options is what a Prober needs. The zero value works.
type Options struct {
	// Logger gets one debug line per test; nil means silence.
	Logger *slog.Logger
	// CgroupRoot is a cgroup v2 directory below which the tests may make a child of their own; empty
	// means the first cgroup v2 mount of the process.
	CgroupRoot string
}

// Result is the answer of one test.
type Result struct {
	Name  Feature `json:"name"`
	Kind  Kind    `json:"kind"`
	About string  `json:"about"` // what vigie would use it for
	Works bool    `json:"works"`
	// Cause is one true sentence that says why it does not work; empty when it does.
	Cause string `json:"cause,omitempty"`
	// Errno is the kernel's answer by name ("EPERM"); empty when it works or the kernel was not asked.
	Errno string `json:"errno,omitempty"`
	// Detail is the failed step and the end of the verifier's log.
	Detail string `json:"detail,omitempty"`
	// Needs is what it would take; empty when it works or when that is not known.
	Needs string `json:"needs,omitempty"`
}

// Prober runs tests when they are asked for and keeps the answers. Its methods may be called from
// several goroutines. The answers hold for the capabilities that the process had at the time.
type Prober struct {
	log   *slog.Logger
	facts Facts
	env   *env
	tests map[Feature]*test

	mu       sync.Mutex
	outcomes map[Feature]*outcome
}

// outcome is what a test returned, before it is explained: an explanation may look at the outcomes
// of other tests.
type outcome struct {
	once sync.Once
	err  error
}

// New reads the host's facts and returns a Prober that has not tested anything yet. Close it.
func New(opts Options) *Prober {
	log := opts.Logger
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	facts := readFacts()
	root := opts.CgroupRoot
	if root == "" {
		root = facts.Cgroup.V2Path
	}
	p := &Prober{
		log:      log,
		facts:    facts,
		env:      &env{cgroupRoot: root},
		tests:    make(map[Feature]*test),
		outcomes: make(map[Feature]*outcome),
	}
	for _, t := range tests() {
		p.tests[t.name] = t
		p.outcomes[t.name] = &outcome{}
	}
	return p
}

// Run tests everything and returns the report.
func Run(ctx context.Context, opts Options) (*Report, error) {
	p := New(opts)
	report, err := p.Report(ctx)
	return report, errors.Join(err, p.Close())
}

// RunFor tests only the named features; their results are in the report, which has no ladder.
func RunFor(ctx context.Context, opts Options, names ...Feature) (*Report, error) {
	p := New(opts)
	results, err := p.Probe(ctx, names...)
	if err = errors.Join(err, p.Close()); err != nil {
		return nil, err
	}
	return &Report{Facts: p.facts, Results: results}, nil
}

// Close removes what the tests shared: a cgroup and a network namespace. It returns the error of a
// cgroup that could not be removed.
func (p *Prober) Close() error { return p.env.close() }

// Probe tests the named features, several at a time, and returns their results in the order of
// names. Its error is an unknown name or the context's.
func (p *Prober) Probe(ctx context.Context, names ...Feature) ([]Result, error) {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(2 * runtime.GOMAXPROCS(0)) // a test mostly waits for the kernel's grace periods
	for _, name := range names {
		if p.tests[name] == nil {
			return nil, fmt.Errorf("probe %q: no such feature", name)
		}
		group.Go(func() error {
			if err := ctx.Err(); err != nil {
				return err
			}
			_ = p.outcome(name) // kept; result explains it
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return nil, fmt.Errorf("probe the kernel: %w", err)
	}
	results := make([]Result, len(names))
	for i, name := range names {
		results[i] = p.result(name)
	}
	return results, nil
}

// Report tests everything.
func (p *Prober) Report(ctx context.Context) (*Report, error) {
	results, err := p.Probe(ctx, Features()...)
	if err != nil {
		return nil, err
	}
	return newReport(p.facts, results), nil
}

// outcome runs a test once.
func (p *Prober) outcome(name Feature) error {
	p.mu.Lock()
	o := p.outcomes[name]
	p.mu.Unlock()
	o.once.Do(func() {
		o.err = p.tests[name].run(p.env)
		p.log.Debug("probed", "feature", name, "error", o.err)
	})
	return o.err
}

func (p *Prober) result(name Feature) Result {
	t, err := p.tests[name], p.outcome(name)
	r := Result{Name: t.name, Kind: t.kind, About: t.about, Works: err == nil}
	if err == nil {
		return r
	}
	r.Errno = errnoOf(err).String()
	r.Detail = detailOf(err)
	r.Cause, r.Needs = p.explain(t, err)
	r.Cause = strings.TrimSuffix(r.Cause, ".")
	return r
}
