// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/signal"
	"path/filepath"
	"regexp"
	"runtime"
	"runtime/debug"
	"strings"
	"syscall"
	"time"

	"github.com/vigie-io/vigie/internal/testkit/measure"
)

func main() {
	if isWorker(os.Args) {
		debug.SetGCPercent(-1) // nothing in the way of what is measured
		runtime.LockOSThread()
		if err := work(os.Args[2:], os.Stdin, os.Stdout); err != nil {
			fmt.Fprintln(os.Stderr, "worker:", err)
			os.Exit(1)
		}
		return
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Stdout, os.Stderr); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return
		}
		fmt.Fprintln(os.Stderr, "bench:", err)
		stop()
		os.Exit(1)
	}
}

// options are the flags (BENCH_ARGS of `make bench`).
type options struct {
	n         int
	sample    time.Duration
	only      *regexp.Regexp
	full      bool
	agent     string
	out       string
	raw       string
	packages  []string
	steady    time.Duration
	storm     time.Duration
	idle      time.Duration
	processes int
	workloads int
	events    int
	seed      uint64
	beside    bool
}

// document is what the tool writes unless it was told otherwise.
const document = "docs/benchmarks.md"

func parse(args []string, errOut io.Writer) (*options, error) {
	o := &options{}
	var only, packages string
	fs := flag.NewFlagSet("bench", flag.ContinueOnError)
	fs.SetOutput(errOut)
	fs.IntVar(&o.n, "n", 10, "rounds of each comparison")
	fs.DurationVar(&o.sample, "sample", 2*time.Second, "length of one sample")
	fs.StringVar(&only, "run", "", "only the benchmarks whose name matches: "+strings.Join(names(), ", "))
	fs.BoolVar(&o.full, "full", false, "20 rounds, 5 s samples, and all of std where the compile load takes a part: over an hour")
	fs.StringVar(&o.agent, "agent", "bin/vigie", "the agent")
	fs.StringVar(&o.out, "o", "", "where the report goes; - is standard output. Without it: "+document+" after a whole run with n of 10 or more, else standard output")
	fs.StringVar(&o.raw, "raw", "", "where the raw samples go (default a file in the user's cache folder)")
	fs.StringVar(&packages, "packages", "go/types encoding/json", "what the compile load builds, with all that it imports")
	fs.DurationVar(&o.steady, "steady", time.Minute, "length of the 5,000 exec/s run")
	fs.DurationVar(&o.storm, "storm", 10*time.Second, "length of the 20,000 connections/s run")
	fs.DurationVar(&o.idle, "idle", time.Minute, "for how long the idle agent is watched")
	fs.IntVar(&o.processes, "processes", 50_000, "processes of the memory benchmark")
	fs.IntVar(&o.workloads, "workloads", 10_000, "workloads of the benchmark of many policies")
	fs.IntVar(&o.events, "events", 10_000_000, "events of the day of history")
	fs.Uint64Var(&o.seed, "seed", uint64(time.Now().UnixNano()), "of the order of the arms and the intervals")
	fs.BoolVar(&o.beside, "beside", false, "measure although another agent's programs are loaded: for work on this tool, the figures mean nothing")
	if err := fs.Parse(args); err != nil {
		return nil, err
	}
	if fs.NArg() > 0 {
		return nil, fmt.Errorf("%q is no flag: see -help", fs.Arg(0))
	}
	if o.full {
		o.n, o.sample, packages = max(o.n, 20), max(o.sample, 5*time.Second), "std"
	}
	var err error
	if o.only, err = regexp.Compile(only); err != nil {
		return nil, fmt.Errorf("-run: %w", err)
	}
	if o.n < 1 || o.sample <= 0 || o.processes < 1 || o.workloads < 1 || o.events < 1000 {
		return nil, errors.New("-n, -sample, -processes, -workloads and -events must be above zero")
	}
	o.packages = strings.Fields(packages)
	if o.out == "" {
		if o.out = "-"; only == "" && o.n >= 10 {
			o.out = document
		}
	}
	if o.agent, err = filepath.Abs(o.agent); err != nil {
		return nil, err
	}
	return o, nil
}

func run(ctx context.Context, args []string, out, progress io.Writer) error {
	o, err := parse(args, progress)
	if err != nil {
		return err
	}
	if os.Getuid() != 0 {
		return errors.New("the agent needs root: sudo make bench")
	}
	b, err := newBench(o, progress)
	if err != nil {
		return err
	}
	defer b.close()
	began := time.Now()
	all, steal := measure.CPUTicks()
	for _, x := range benchmarks() {
		if !o.only.MatchString(x.name) {
			continue
		}
		b.say("%s", x.name)
		if err := x.run(b, ctx); err != nil {
			b.out = "-" // what was measured so far is shown, and is not the page
			return errors.Join(fmt.Errorf("%s: %w", x.name, err), b.write(out))
		}
	}
	allAfter, stealAfter := measure.CPUTicks()
	b.results.Host.Steal = float64(stealAfter-steal) / float64(max(allAfter-all, 1))
	b.results.Host.LoadAfter = measure.LoadAverage()
	b.results.Took = time.Since(began).Round(time.Second)
	return b.write(out)
}

// bench is one run of the tool.
type bench struct {
	*options
	progress    io.Writer
	dir         string // removed in the end
	worker      string // this binary under a name that no other process has
	exit, pause string // the tiny programs
	rng         *rand.Rand
	results     results
}

func newBench(o *options, progress io.Writer) (*bench, error) {
	if _, err := os.Stat(o.agent); err != nil {
		return nil, fmt.Errorf("find the agent: %w: run make build, or name it with -agent", err)
	}
	present, err := measure.CountPrograms()
	if err != nil {
		return nil, err
	}
	if present > 0 && !o.beside {
		return nil, fmt.Errorf("%d programs of another agent are loaded: stop that agent first, figures beside it mean nothing", present)
	}
	dir, err := os.MkdirTemp("", "vigie-bench-")
	if err != nil {
		return nil, fmt.Errorf("make a directory: %w", err)
	}
	b := &bench{options: o, progress: progress, dir: dir, worker: filepath.Join(dir, "worker"), exit: filepath.Join(dir, "exit"),
		pause: filepath.Join(dir, "pause"), rng: rand.New(rand.NewPCG(o.seed, o.seed))}
	b.results = results{Seed: o.seed, N: o.n, Sample: o.sample, Began: time.Now().UTC(), Packages: strings.Join(o.packages, " "), Host: measure.Host(o.agent)}
	if err := errors.Join(writePrograms(b.exit, b.pause), copySelf(b.worker)); err != nil {
		b.close()
		return nil, err
	}
	return b, nil
}

func (b *bench) close() { _ = os.RemoveAll(b.dir) }

func (b *bench) say(format string, args ...any) {
	fmt.Fprintf(b.progress, time.Now().Format("15:04:05 ")+format+"\n", args...)
}

func copySelf(to string) error {
	data, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		return fmt.Errorf("read this program: %w", err)
	}
	if err := os.WriteFile(to, data, 0o755); err != nil {
		return fmt.Errorf("copy this program: %w", err)
	}
	return nil
}
