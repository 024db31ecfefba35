// SPDX-License-Identifier: Apache-2.0

package host

import (
	"bufio"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// idleEnv says how long the host is left alone, as a Go duration.
const idleEnv = "VIGIE_IDLE"

// On a host where nobody does anything, the detections that come with vigie find nothing: neither in what systemd's timers and
// cron start, nor in services that start anew.
func TestAnIdleHostRaisesNoAlert(t *testing.T) {
	needGuest(t)
	long, err := time.ParseDuration(os.Getenv(idleEnv))
	if err != nil {
		t.Skipf("needs to be told for how long, as %s=60m: %v", idleEnv, err)
	}
	install(t)
	began := time.Now()
	chores(t)
	alerts := watch(t, long-time.Since(began))
	for _, a := range alerts {
		t.Errorf("an alert: %s", a)
	}
	t.Logf("%v: %d alerts\n%s", time.Since(began).Round(time.Second), len(alerts), must(t, "vigie", "status"))
	usage(t)
}

// chores has everything done that a server does by the clock, within the hour, and every service started anew.
func chores(t *testing.T) {
	t.Helper()
	var timers []struct{ Activates string }
	decode(t, must(t, "systemctl", "list-timers", "--all", "--output=json"), &timers)
	if len(timers) < 5 {
		t.Errorf("only %d timers: not what a server has", len(timers))
	}
	for _, timer := range timers {
		_, err := try("systemctl", "start", timer.Activates) // some need a network, and fail
		t.Logf("started %s: %v", timer.Activates, err)
	}
	must(t, "systemctl", "restart", "nginx", "postgresql", "redis-server", "ssh", "cron", "rsyslog", "systemd-logind", "systemd-udevd", "systemd-journald")
}

// watch returns the alerts since the agent's start, those of a while from now on included.
func watch(t *testing.T, long time.Duration) (alerts []string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), long)
	defer cancel()
	cmd := exec.CommandContext(ctx, "vigie", "events", "--follow", "--last=0", "--type=alert", "--output=json")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	for lines := bufio.NewScanner(out); lines.Scan(); {
		t.Log(lines.Text())
		alerts = append(alerts, lines.Text())
	}
	if err := cmd.Wait(); ctx.Err() == nil || !errors.Is(ctx.Err(), context.DeadlineExceeded) {
		t.Fatalf("the stream of alerts ended before its time, with %v:\n%s", err, journal())
	}
	return alerts
}

// usage says what the agent takes of this host.
func usage(t *testing.T) {
	t.Helper()
	proc := filepath.Join("/proc", property(t, "MainPID"))
	for _, file := range []string{"status", "smaps_rollup"} {
		b, err := os.ReadFile(filepath.Join(proc, file))
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(b)) {
			for _, name := range []string{"VmHWM", "VmRSS", "RssAnon", "RssFile", "Pss", "Threads"} {
				if strings.HasPrefix(line, name+":") {
					t.Log(strings.Join(strings.Fields(line), " "))
				}
			}
		}
	}
	nanoseconds, err := strconv.ParseInt(property(t, "CPUUsageNSec"), 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("CPU since its start: %v; tasks %s, memory of the cgroup %s", time.Duration(nanoseconds), property(t, "TasksCurrent"), property(t, "MemoryCurrent"))
}
