// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

func put(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o700); err != nil {
		t.Fatal(err)
	}
}

// A rule of one's own is in force by itself, ends what it is told to end, and stays when its file is spoiled.
func TestARuleOfOnesOwn(t *testing.T) {
	rules := t.TempDir()
	a := startAgent(t, "--rules-dir", rules)
	sleep, err := exec.LookPath("sleep")
	if err != nil {
		t.Fatal(err)
	}
	program, err := os.ReadFile(sleep)
	if err != nil {
		t.Fatal(err)
	}
	victim, other := filepath.Join(a.dir, "victim"), filepath.Join(a.dir, "other")
	put(t, victim, string(program))
	put(t, other, string(program))
	spared := exec.Command(other, "1000")
	if err := spared.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = spared.Process.Kill(); _ = spared.Wait() }()

	file := filepath.Join(rules, "mine.yaml")
	put(t, file, fmt.Sprintf(`
rules:
- {id: mine, title: mine, severity: critical, action: kill, when: 'type == "exec" && process.binary == %q', output: "{process.binary} {process.args}"}
`, victim))
	listed := func() string {
		out, errs, _ := run(t, nil, "rules", "list", "--socket", a.socket, "-o", "wide")
		return out + errs
	}
	a.await("the rule to be in force", func() bool { return strings.Contains(listed(), "mine ") })
	killed := func() bool {
		cmd := exec.Command(victim, "1000")
		_ = cmd.Run()
		status, ok := cmd.ProcessState.Sys().(syscall.WaitStatus)
		return ok && status.Signal() == syscall.SIGKILL
	}
	if !killed() {
		t.Error("the victim was not killed")
	}
	alert := a.awaitEvent("the alert", func(e map[string]any) bool { return get(e, "alert.rule") == "mine" })
	if get(alert, "alert.action") != "kill" || get(alert, "alert.message") != victim+" "+victim+" 1000" || get(alert, "process.binary") != victim {
		t.Errorf("alert %v of %v", alert["alert"], get(alert, "process.binary"))
	}
	raising := a.awaitEvent("the event", func(e map[string]any) bool { return e["seq"] == get(alert, "alert.event_seq") })
	if raising["type"] != "exec" || get(raising, "process.exec_id") != get(alert, "process.exec_id") || alert["seq"] != raising["seq"].(float64)+1 {
		t.Errorf("the alert with number %v is about %v, number %v", alert["seq"], raising["type"], raising["seq"])
	}

	put(t, file, "rules:\n- {id: mine, whn: x}\n")
	problem := func() string { return fmt.Sprint(a.call("Health")["problems"]) }
	a.await("the mistake to be told", func() bool { return strings.Contains(problem(), file+":2:14: a rule has no field \"whn\"") })
	if !killed() {
		t.Error("the rule before is no longer in force")
	}
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	a.await("the rule to be gone", func() bool { return !strings.Contains(listed(), "mine ") && a.call("Health")["ready"] == true })
	if err := spared.Process.Signal(syscall.Signal(0)); err != nil {
		t.Errorf("another process was ended: %v", err)
	}
	a.stop()
}

// A build is work and no alarm: a small version of what is tried with a whole standard library before a release.
func TestABuildRaisesNothing(t *testing.T) {
	a := startAgent(t, "--rules-dir", t.TempDir())
	dir := t.TempDir()
	put(t, filepath.Join(dir, "go.mod"), "module example.org/hello\n\ngo 1.26\n")
	put(t, filepath.Join(dir, "main.go"), "package main\n\nimport \"fmt\"\n\nfunc main() { fmt.Println(\"hello\") }\n")
	put(t, filepath.Join(dir, "main_test.go"), "package main\n\nimport \"testing\"\n\nfunc TestMain1(t *testing.T) { main() }\n")
	var pids []float64
	for _, args := range [][]string{{"build", "-o", "hello", "."}, {"vet", "."}, {"test", "."}, {"run", "."}} {
		cmd := exec.Command("go", args...)
		cmd.Dir, cmd.Env = dir, append(os.Environ(), "GOFLAGS=-buildvcs=false")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("go %v: %v\n%s", args, err, out)
		}
		pids = append(pids, float64(cmd.Process.Pid))
	}
	a.stop()
	family := make(map[float64]bool)
	for _, pid := range pids {
		family[pid] = true
	}
	b, err := os.ReadFile(a.json)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Contains(b, []byte(filepath.Join(dir, "hello"))) {
		t.Error("the build was not seen")
	}
	for _, e := range a.events() {
		pid, _ := get(e, "process.pid").(float64)
		if parent, _ := get(e, "process.parent.pid").(float64); e["type"] == "fork" && family[parent] {
			family[pid] = true
		}
		if e["type"] == "alert" && family[pid] {
			t.Errorf("a build raises %v: %v", get(e, "alert.rule"), get(e, "alert.message"))
		}
	}
	if len(family) < 5 {
		t.Errorf("only %d processes are known to be the build's", len(family))
	}
}
