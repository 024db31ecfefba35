// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"regexp"
	"strconv"
	"time"
)

// guest is one machine to boot: from an initramfs or from disks, of which nothing that it writes is kept.
type guest struct {
	kernel, initrd, memory string
	cpus                   int
	root, tests            string    // disks, each a file system
	clock                  time.Time // at its start; zero is now
	append                 string    // to the kernel's command line
}

// args is QEMU's command line.
func (g guest) args() []string {
	args := []string{
		"-accel", "tcg", // software: the same answer on every machine, also inside a virtual one
		"-cpu", "max", "-smp", strconv.Itoa(g.cpus), "-m", g.memory,
		"-nodefaults", "-no-user-config", "-no-reboot", "-display", "none",
		"-serial", "stdio", "-nic", "none",
		"-kernel", g.kernel,
		// Debian leaves bpf out of the LSM list until the user adds it. A panic ends the guest.
		"-append", "console=ttyS0 quiet loglevel=4 panic=-1 lsm=landlock,lockdown,integrity,bpf " + g.append,
	}
	if g.initrd != "" {
		args = append(args, "-initrd", g.initrd)
	}
	if !g.clock.IsZero() {
		args = append(args, "-rtc", "base="+g.clock.Format("2006-01-02T15:04:05"))
	}
	if g.root != "" {
		// NVMe, because Debian's kernels have it built in: no initramfs is needed. It is the only one: two would be named in
		// the order in which they answer.
		args = append(args, "-snapshot", "-drive", "if=none,id=root,format=raw,file="+g.root, "-device", "nvme,drive=root,serial=root",
			"-drive", "if=none,id=tests,format=raw,file="+g.tests, "-device", "virtio-blk-pci,drive=tests")
	}
	return args
}

// minQEMU is the oldest major version that boots all kernels in use: 6.12 panics on 7.2.
const minQEMU = 10

// powerOffGrace is how long a guest may take to turn itself off after its last word.
const powerOffGrace = 30 * time.Second

// boot runs a guest until it turns itself off, and copies its console to w. The report is never nil.
func boot(ctx context.Context, g guest, w io.Writer) (*report, error) {
	rep := &report{}
	if err := checkQEMU(ctx); err != nil {
		return rep, err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	cmd := exec.CommandContext(ctx, "qemu-system-x86_64", g.args()...)
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return rep, fmt.Errorf("open the console: %w", err)
	}
	cmd.Stderr = w
	if err := cmd.Start(); err != nil {
		return rep, fmt.Errorf("start QEMU: %w", err)
	}
	for in := bufio.NewReader(stdout); ; {
		line, err := in.ReadString('\n')
		if line != "" {
			if _, err := io.WriteString(w, line); err != nil {
				return rep, errors.Join(fmt.Errorf("keep the console: %w", err), stop(cmd, cancel))
			}
			rep.line(line)
			if rep.done {
				time.AfterFunc(powerOffGrace, cancel)
			}
		}
		if err != nil {
			break
		}
	}
	err = cmd.Wait()
	switch {
	case rep.done:
		return rep, nil // all verdicts are in; how the machine went off is no part of them
	case ctx.Err() != nil:
		return rep, fmt.Errorf("the guest did not end in time or was interrupted: %w", context.Cause(ctx))
	case err != nil:
		return rep, fmt.Errorf("run QEMU: %w", err)
	}
	return rep, nil
}

func stop(cmd *exec.Cmd, cancel context.CancelFunc) error {
	cancel()
	return cmd.Wait()
}

func checkQEMU(ctx context.Context) error {
	const todo = "run tools/deps.sh vm as root"
	out, err := exec.CommandContext(ctx, "qemu-system-x86_64", "--version").Output()
	if err != nil {
		return fmt.Errorf("run qemu-system-x86_64 (%s): %w", todo, err)
	}
	m := regexp.MustCompile(`version (\d+)\.`).FindSubmatch(out)
	if m == nil {
		return fmt.Errorf("read QEMU's version from %q", out)
	}
	if major, err := strconv.Atoi(string(m[1])); err != nil || major < minQEMU {
		return fmt.Errorf("QEMU %s is too old, %d is needed: %s", m[1], minQEMU, todo)
	}
	return nil
}
