// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"
)

// tinyPrograms writes the programs for this machine.
func tinyPrograms(t *testing.T) (exit, pause string) {
	t.Helper()
	dir := t.TempDir()
	exit, pause = filepath.Join(dir, "exit"), filepath.Join(dir, "pause")
	if err := writePrograms(exit, pause); err != nil {
		t.Fatal(err)
	}
	return exit, pause
}

func TestTinyPrograms(t *testing.T) {
	exit, pause := tinyPrograms(t)
	if err := exec.Command(exit).Run(); err != nil {
		t.Errorf("exit: %v", err)
	}
	if fi, err := os.Stat(exit); err != nil || fi.Size() > 4096 {
		t.Errorf("exit is longer than a page: %v, %v", fi, err)
	}
	cmd := exec.Command(pause)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Errorf("pause is gone: %v", err)
	}
	_ = cmd.Wait()
	if s := cmd.ProcessState.Sys().(syscall.WaitStatus); s.Signal() != syscall.SIGTERM {
		t.Errorf("pause ended by itself: %v", cmd.ProcessState)
	}
}

func TestSpawner(t *testing.T) {
	exit, pause := tinyPrograms(t)
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	s, err := newSpawner(exit)
	if err != nil {
		t.Fatal(err)
	}
	for range 100 {
		pid, err := s.start()
		if err != nil {
			t.Fatal(err)
		}
		if err := wait(pid); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Remove(pause); err != nil {
		t.Fatal(err)
	}
	if s, err = newSpawner(pause); err != nil {
		t.Fatal(err)
	}
	pid, err := s.start()
	if err != nil {
		t.Fatal(err)
	}
	if err := wait(pid); err == nil || !strings.Contains(err.Error(), "exec may have failed") {
		t.Errorf("wait for an exec that failed: %v", err)
	}
}

// TestSteps takes each load through a few steps.
func TestSteps(t *testing.T) {
	exit, pause := tinyPrograms(t)
	files := t.TempDir()
	if err := makeFiles(files, 3); err != nil {
		t.Fatal(err)
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	for _, j := range []job{
		{kind: "exec", target: exit, count: 20},
		{kind: "exec", target: exit, count: 20, rate: 5000},
		{kind: "pause", target: pause, count: 20},
		{kind: "open", target: files, count: 50},
		{kind: "rr", count: 50},
		{kind: "storm", count: 50},
	} {
		t.Run(j.kind, func(t *testing.T) {
			step, finish, err := j.prepare(strings.NewReader(""))
			if err != nil {
				t.Fatal(err)
			}
			d, err := j.loop(step)
			finish()
			if err != nil {
				t.Fatal(err)
			}
			if d.Count != j.count || d.Elapsed <= 0 {
				t.Errorf("did %+v, want %d steps", d, j.count)
			}
			if j.rate > 0 && d.Elapsed < time.Duration(float64(j.count-2)/j.rate*1e9) {
				t.Errorf("%d steps in %v are more than %v a second", d.Count, d.Elapsed, j.rate)
			}
		})
	}
	if _, _, err := (&job{kind: "dance"}).prepare(nil); err == nil {
		t.Error("no error for a load that does not exist")
	}
	if _, _, err := openStep(t.TempDir()); err == nil {
		t.Error("no error for an empty folder")
	}
}

func TestLoopEndsInTime(t *testing.T) {
	j := job{duration: time.Millisecond}
	d, err := j.loop(func() error { return nil })
	if err != nil || d.Elapsed < j.duration || d.Count == 0 {
		t.Errorf("loop = %+v, %v", d, err)
	}
}

func TestWork(t *testing.T) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	files := t.TempDir()
	if err := makeFiles(files, 1); err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := work([]string{"-kind", "open", "-target", files, "-count", "5"}, strings.NewReader("go\n"), &out); err != nil {
		t.Fatal(err)
	}
	line, err := out.ReadString('\n')
	if err != nil || line != "ready\n" {
		t.Fatalf("first line %q, %v", line, err)
	}
	var d done
	if err := json.Unmarshal(out.Bytes(), &d); err != nil || d.Count != 5 {
		t.Errorf("did %+v, %v", d, err)
	}
	if err := work([]string{"-kind", "open", "-target", files}, strings.NewReader(""), io.Discard); err == nil {
		t.Error("a worker began without being told to")
	}
}
