// SPDX-License-Identifier: Apache-2.0

package l7

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/vigie-io/vigie/internal/model"
	"github.com/vigie-io/vigie/internal/pipeline"
	processes "github.com/vigie-io/vigie/internal/sensor/exec"
	"github.com/vigie-io/vigie/internal/sensor/socket"
	"github.com/vigie-io/vigie/internal/testkit"
)

// world is the sensor at work, and servers in a network namespace of their own.
type world struct {
	*testkit.Kernel
	t      *testing.T
	sensor *Sensor
	ns     *testkit.NetNS
	dir    string
	as     *syscall.Credential // who runs servers and commands; nil: root
}

// newWorld listens to everybody but the test itself.
func newWorld(t *testing.T) *world {
	t.Helper()
	choice, err := ParseChoice("all", nil)
	if err != nil {
		t.Fatal(err)
	}
	return newWorldOf(t, choice)
}

func newWorldOf(t *testing.T, choice *Choice) *world {
	t.Helper()
	testkit.RequireBPF(t)
	losses := new(pipeline.Losses)
	w := &world{t: t, sensor: New(Options{Choice: choice, Losses: losses}), ns: testkit.NewNetNS(t), dir: t.TempDir()}
	for _, dir := range []string{w.dir, filepath.Dir(w.dir)} { // for servers that give up root
		if err := os.Chmod(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	w.Kernel = testkit.StartSensor(t, processes.New(processes.Options{}), socket.New(socket.Options{}), w.sensor)
	t.Cleanup(func() {
		if !t.Failed() {
			return
		}
		for _, e := range w.Events(func(e *model.Event) bool { return e.Request != nil && e.Request.NetNS == w.ns.Inode }) {
			t.Logf("seen: %+v", *e.Request)
		}
		if err := w.Host.ReadLosses(); err != nil {
			t.Log(err)
		}
		t.Logf("rung: %s", w.sensor.Rung())
		for _, l := range append(w.Losses.Snapshot(), losses.Snapshot()...) {
			t.Logf("lost: %+v", l)
		}
	})
	return w
}

// need skips the test when a program is missing.
func (w *world) need(name, pkg string) string {
	w.t.Helper()
	for _, dir := range []string{"/usr/lib/postgresql/15/bin/", "/usr/sbin/", "/usr/bin/"} {
		if _, err := os.Stat(dir + name); err == nil {
			return dir + name
		}
	}
	w.t.Skipf("needs %s (Debian package %s)", name, pkg)
	return ""
}

// serve starts a server in the namespace and waits until it answers at address; it is ended with the test.
func (w *world) serve(address string, argv ...string) *exec.Cmd {
	w.t.Helper()
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Dir = w.dir
	log, err := os.Create(filepath.Join(w.dir, fmt.Sprintf("log-%d", time.Now().UnixNano())))
	if err != nil {
		w.t.Fatal(err)
	}
	defer log.Close()
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: w.as}
	w.ns.Do(w.t, cmd.Start)
	w.t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		late := time.AfterFunc(5*time.Second, func() { _ = cmd.Process.Kill() })
		defer late.Stop()
		_ = cmd.Wait()
	})
	for end := time.Now().Add(testkit.Deadline); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		err := w.ns.Run(func() error {
			c, err := net.Dial("tcp", address)
			if err == nil {
				c.Close()
			}
			return err
		})
		if err == nil {
			return cmd
		}
	}
	text, _ := os.ReadFile(log.Name())
	w.t.Fatalf("%s does not answer at %s: %s", argv[0], address, text)
	return nil
}

// run runs a command in the namespace and returns what it prints.
func (w *world) run(argv ...string) string {
	w.t.Helper()
	var out []byte
	w.ns.Do(w.t, func() error {
		cmd := exec.Command(argv[0], argv[1:]...)
		cmd.Dir, cmd.SysProcAttr = w.dir, &syscall.SysProcAttr{Credential: w.as}
		var err error
		if out, err = cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("%q: %w: %s", argv, err, out)
		}
		return nil
	})
	return string(out)
}

// file writes a file of the test.
func (w *world) file(name, text string) string {
	w.t.Helper()
	path := filepath.Join(w.dir, name)
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		w.t.Fatal(err)
	}
	return path
}

// request waits for a request that matches, seen from one end.
func (w *world) request(role string, match func(*model.Request) bool) *model.Event {
	w.t.Helper()
	return w.Await(w.t, "the request of the "+role, func(e *model.Event) bool {
		return e.Request != nil && e.Request.Role == role && e.Request.NetNS == w.ns.Inode && match(e.Request)
	})
}

// hidden checks that none of the secrets is in anything that was reported, but for the command lines that they were given in.
func (w *world) hidden(secrets ...string) {
	w.t.Helper()
	for _, e := range w.Events(func(e *model.Event) bool { return e.Type != model.TypeExec }) {
		text := string(e.AppendJSON(nil, "0"))
		for _, s := range secrets {
			if strings.Contains(text, s) {
				w.t.Errorf("%q is told: %s", s, text)
			}
		}
	}
}
