// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

// config is what the command line decides.
type config struct {
	kernels  []string      // series ("6.1") or paths of linux-image .deb files
	packages []string      // Go package patterns
	run      string        // -test.run of every test binary
	guest    string        // what boots: busybox or debian
	env      []string      // NAME=VALUE for the tests of a Debian guest
	memory   string        // of the guest, as QEMU writes it
	timeout  time.Duration // of one boot, all its tests included
	cache    string        // folder kept between runs
	verbose  bool          // the whole console on stdout, as it comes
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:], os.Stdout)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "vm:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, out io.Writer) error {
	cfg, err := parseFlags(args)
	if err != nil {
		return err
	}
	work, err := os.MkdirTemp("", "vigie-vm-")
	if err != nil {
		return fmt.Errorf("make a work folder: %w", err)
	}
	defer os.RemoveAll(work)

	bins, err := buildTests(ctx, cfg.packages, filepath.Join(work, "bin"), out)
	if err != nil {
		return err
	}
	var failed []string
	skips := map[string]int{}
	for _, name := range cfg.kernels {
		rep, err := runKernel(ctx, cfg, name, bins, work, out)
		for _, s := range rep.skipped {
			skips[s.test]++
		}
		if err != nil {
			fmt.Fprintf(out, "FAIL kernel %s: %v\n", name, err)
			failed = append(failed, name)
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
	}
	for _, test := range slices.Sorted(maps.Keys(skips)) {
		if skips[test] == len(cfg.kernels) {
			fmt.Fprintf(out, "note: %s was skipped on every kernel: it must run on the host, or it proves nothing\n", test)
		}
	}
	if len(failed) > 0 {
		return fmt.Errorf("tests failed on kernel %s", strings.Join(failed, ", "))
	}
	return nil
}

// runKernel boots one kernel with all test binaries and reports what the console said. The report is never nil.
func runKernel(ctx context.Context, cfg config, name string, bins []testBinary, work string, out io.Writer) (*report, error) {
	rep := &report{}
	img, err := fetchKernel(ctx, name, cfg.cache)
	if err != nil {
		return rep, err
	}
	g, err := makeGuest(ctx, cfg, img, bins, work)
	if err != nil {
		return rep, err
	}
	log, err := os.CreateTemp("", "vigie-console-"+img.release+"-*.log")
	if err != nil {
		return rep, fmt.Errorf("create the console log: %w", err)
	}
	logPath := log.Name()
	defer log.Close()

	fmt.Fprintf(out, "=== kernel %s: booting %s with %d test binaries (console: %s)\n", name, img.release, len(bins), logPath)
	console := io.Writer(log)
	if cfg.verbose {
		console = io.MultiWriter(log, out)
	}
	started := time.Now()
	ctx, cancel := context.WithTimeout(ctx, cfg.timeout)
	defer cancel()
	rep, err = boot(ctx, g, console)
	rep.print(out, name)
	if err == nil {
		err = rep.verdict(len(bins))
	}
	if err != nil {
		if !cfg.verbose {
			printFailure(out, rep, logPath)
		}
		return rep, err
	}
	if err := os.Remove(logPath); err != nil {
		return rep, fmt.Errorf("remove the console log of a run that passed: %w", err)
	}
	fmt.Fprintf(out, "ok   kernel %s: %d packages, %d tests passed, %d skipped, 0 failed (%s)\n",
		name, len(rep.packages), rep.passed, len(rep.skipped), time.Since(started).Round(time.Second))
	return rep, nil
}

// makeGuest makes the machine that runs the tests.
func makeGuest(ctx context.Context, cfg config, img image, bins []testBinary, work string) (guest, error) {
	if cfg.guest == "debian" {
		return debianGuest(ctx, cfg, img, bins, work)
	}
	initrd := filepath.Join(work, "initramfs-"+filepath.Base(img.dir)+".cpio")
	if err := writeInitramfs(initrd, img, bins, cfg.run); err != nil {
		return guest{}, fmt.Errorf("write the initramfs: %w", err)
	}
	return guest{kernel: img.vmlinuz, initrd: initrd, memory: cfg.memory, cpus: 2, append: "rdinit=/init"}, nil
}

// printFailure shows the output of the packages that failed, or the end of the console when no package
// ran to an end: then it is the boot that failed.
func printFailure(out io.Writer, rep *report, logPath string) {
	shown := false
	for _, p := range rep.packages {
		if !p.ok {
			fmt.Fprintf(out, "--- output of %s\n%s", p.name, strings.Join(p.lines, ""))
			shown = true
		}
	}
	if shown {
		return
	}
	fmt.Fprintf(out, "--- end of the console (the whole is in %s)\n%s", logPath, strings.Join(rep.tail, ""))
}

func parseFlags(args []string) (config, error) {
	var cfg config
	var kernels string
	fs := flag.NewFlagSet("vm", flag.ContinueOnError)
	fs.StringVar(&kernels, "kernels", "6.1 6.12", "kernel series of Debian, or paths of linux-image .deb files; separated by space or comma")
	fs.StringVar(&cfg.run, "run", "", "only the tests that match this expression (as go test -run)")
	fs.StringVar(&cfg.guest, "guest", "busybox", "what boots: busybox, or debian, a server with systemd")
	fs.Func("env", "NAME=VALUE for the tests of a Debian guest; can be repeated", func(v string) error {
		cfg.env = append(cfg.env, v)
		return nil
	})
	fs.StringVar(&cfg.memory, "memory", "1G", "memory of the guest")
	fs.DurationVar(&cfg.timeout, "timeout", 90*time.Minute, "limit of one boot with all its tests")
	fs.BoolVar(&cfg.verbose, "v", false, "print the whole console")
	if err := fs.Parse(args); err != nil {
		return cfg, err
	}
	cfg.kernels = strings.FieldsFunc(kernels, func(r rune) bool { return r == ' ' || r == ',' })
	cfg.packages = fs.Args()
	if len(cfg.kernels) == 0 || len(cfg.packages) == 0 {
		return cfg, errors.New("name at least one kernel and one package: vm -kernels 6.1 ./internal/kernel")
	}
	if cfg.guest != "busybox" && cfg.guest != "debian" {
		return cfg, fmt.Errorf("-guest %s: it is busybox or debian", cfg.guest)
	}
	user, err := os.UserCacheDir()
	if err != nil {
		return cfg, fmt.Errorf("find the cache folder, set XDG_CACHE_HOME or HOME: %w", err)
	}
	cfg.cache = filepath.Join(user, "vigie", "vm")
	if err := os.MkdirAll(cfg.cache, 0o755); err != nil {
		return cfg, fmt.Errorf("make the cache folder: %w", err)
	}
	return cfg, nil
}
