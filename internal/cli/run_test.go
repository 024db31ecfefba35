// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/vigie-io/vigie/internal/agent"
)

// configOf runs `vigie run` with an agent that only looks at its configuration.
func configOf(t *testing.T, args ...string) (c agent.Config, code int, stderr string) {
	t.Helper()
	code, _, stderr = vigieWith(context.Background(), t, func(_ context.Context, got agent.Config, _ agent.Deps) error {
		c = got
		return nil
	}, append([]string{"run"}, args...)...)
	return c, code, stderr
}

func configFile(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "vigie.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestFlagsWinOverTheFile(t *testing.T) {
	path := configFile(t, "# the agent of this host\nhttp: off\nmemory-events: 77\nspeed: 2\nquiet: true\nsensors: [exec, file]\nstate-dir: /srv/vigie\nlog-level: debug\n")
	c, code, stderr := configOf(t, "--config", path, "--memory-events", "5", "--socket", "/tmp/x.sock")
	if code != 0 {
		t.Fatal(stderr)
	}
	got := fmt.Sprintln(c.HTTP, c.MemoryEvents, c.Speed, c.Sensors, c.StateDir, c.Socket)
	if want := "off 5 2 [exec file] /srv/vigie /tmp/x.sock\n"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	for _, empty := range []string{"", "# nothing\n", "---\n"} {
		if c, code, stderr := configOf(t, "--config", configFile(t, empty)); code != 0 || c.HTTP != "127.0.0.1:9780" {
			t.Errorf("%q: exit %d, %s", empty, code, stderr)
		}
	}
}

func TestConfigMistakesNameFileLineAndField(t *testing.T) {
	for text, want := range map[string][]string{
		"http: off\nstate_dir: /x\n":        {`:2: unknown field "state_dir": did you mean "state-dir"?`},
		"sokcet: /x\n":                      {`:1: unknown field "sokcet": did you mean "socket"?`},
		"zebra: 1\n":                        {`:1: unknown field "zebra": known are args-limit`},
		"memory-events: many\nspeed: [1]\n": {`:1: field "memory-events": want a whole number, got the string "many"`, `:2: field "speed": want a number, got a list`},
		"quiet: 1\n":                        {`:1: field "quiet": want true or false, got the number 1`},
		"http: 9780\n":                      {`:1: field "http": want a string, got the number 9780`},
		"sensors: {a: b}\n":                 {`:1: field "sensors": want a list of strings, got a mapping`},
		"sensors: [1]\n":                    {`:1: field "sensors": want a list of strings, got the number 1 in it`},
		"socket:\n":                         {`:1: field "socket": want a string, got nothing`},
		"http: a\nhttp: b\n":                {`:2: `, `"http"`},
		"- a\n":                             {`:1: want lines of`},
		"a: b: c\n":                         {":1: not YAML"},
		"http: off\nquiet: true\na: b: c\n": {":3: not YAML"},
		"http: off\n---\nhttp: on\n":        {"more than one YAML document"},
		"export-json-max-age: soon\n":       {`:1: field "export-json-max-age": time: invalid duration "soon"`},
		"export-jsn: /x\n":                  {`:1: unknown field "export-jsn": did you mean "export-json"?`},
		"config: /x\n":                      {`:1: unknown field "config"`},
		"memory-events: 99999999999999999999999999\n": {`:1: field "memory-events"`},
	} {
		path := configFile(t, text)
		_, code, stderr := configOf(t, "--config", path, "--memory-events", "5")
		if code != ExitCannot || !strings.Contains(stderr, path) {
			t.Errorf("%q: exit %d, %s", text, code, stderr)
		}
		for _, w := range want {
			if !strings.Contains(stderr, w) {
				t.Errorf("%q: %q lacks %q", text, stderr, w)
			}
		}
	}
}

func TestReplayWithoutRootMovesDefaults(t *testing.T) {
	c := agent.Default()
	cmd := NewRun(Env{}, c, nil)
	c.Replay = "x"
	err := rootless(&c, cmd.Flags(), func(string) string { return "/run/user/7" })
	if err != nil {
		t.Fatal(err)
	}
	want := "/run/user/7/vigie/vigie.sock"
	if os.Getuid() == 0 {
		want = DefaultSocket
	}
	if c.Socket != want {
		t.Errorf("socket %s, want %s", c.Socket, want)
	}
}

type privilegeError struct{}

func (privilegeError) Error() string { return "loading programs needs root: run with sudo" }
func (privilegeError) ExitCode() int { return 2 }

func TestRunReportsTheAgentsEnd(t *testing.T) {
	for _, c := range []struct {
		err  error
		code int
	}{{nil, 0}, {errors.New("x failed"), 1}, {fmt.Errorf("start: %w", privilegeError{}), 2}} {
		code, _, stderr := vigieWith(context.Background(), t, func(context.Context, agent.Config, agent.Deps) error { return c.err }, "run")
		if code != c.code || (c.err != nil) != strings.Contains(stderr, fmt.Sprint(c.err)) {
			t.Errorf("%v: exit %d, %s", c.err, code, stderr)
		}
	}
	// The signal that ends it is no failure; logs go to standard error.
	ctx, cancel := context.WithCancel(context.Background())
	code, stdout, stderr := vigieWith(ctx, t, func(ctx context.Context, _ agent.Config, d agent.Deps) error {
		d.Log.Info("hello")
		d.Log.Debug("silence")
		cancel()
		return ctx.Err()
	}, "run", "--log-format", "json")
	if code != 0 || stdout != "" || !strings.Contains(stderr, `"msg":"hello"`) || strings.Contains(stderr, "silence") {
		t.Errorf("exit %d, %q, %q", code, stdout, stderr)
	}
}

func TestHangupAsksForAReload(t *testing.T) {
	code, _, stderr := vigieWith(context.Background(), t, func(ctx context.Context, _ agent.Config, d agent.Deps) error {
		if err := syscall.Kill(os.Getpid(), syscall.SIGHUP); err != nil {
			return err
		}
		<-d.Reload // the test's deadline ends a wait for ever
		return nil
	}, "run")
	if code != 0 {
		t.Error(stderr)
	}
}
