// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/vigie-io/vigie/internal/testkit"
)

const shadowPolicy = `apiVersion: vigie.io/v1alpha1
kind: WorkloadPolicy
metadata: {name: secrets}
spec:
  selector: {}
  mode: enforce
  files:
    deny: [{path: SECRET}]
---
apiVersion: vigie.io/v1alpha1
kind: PolicyTest
metadata: {name: secrets}
as: {binary: /bin/cat}
cases:
- name: the secret is kept
  deny: [read SECRET]
  allow: [read /etc/passwd]
`

// policyTrial is an agent with a policy directory of its own, and a policy about a file of the test.
type policyTrial struct {
	*agent
	t                      *testing.T
	policies, secret, file string
}

func newPolicyTrial(t *testing.T) *policyTrial {
	dir := t.TempDir()
	p := &policyTrial{t: t, policies: filepath.Join(dir, "policies"), secret: filepath.Join(dir, "secret"), file: filepath.Join(dir, "policy.yaml")}
	p.write(p.secret, "s3cret")
	p.write(p.file, strings.ReplaceAll(shadowPolicy, "SECRET", p.secret))
	return p
}

func (p *policyTrial) write(path, text string) {
	p.t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		p.t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		p.t.Fatal(err)
	}
}

// policy runs `vigie policy` and wants an exit code, and texts in what it prints.
func (p *policyTrial) policy(code int, args []string, says ...string) string {
	p.t.Helper()
	stdout, stderr, got := run(p.t, nil, append([]string{"policy"}, args...)...)
	if got != code {
		p.t.Errorf("vigie policy %s: exit %d, want %d: %s%s", strings.Join(args, " "), got, code, stdout, stderr)
	}
	for _, text := range says {
		if !strings.Contains(stdout+stderr, text) {
			p.t.Errorf("vigie policy %s does not say %q: %s%s", strings.Join(args, " "), text, stdout, stderr)
		}
	}
	return stdout
}

func (p *policyTrial) start() {
	p.t.Helper()
	p.agent = startAgent(p.t, "--policy-dir", p.policies)
}

// asked is a command with the agent's socket.
func (p *policyTrial) asked(args ...string) []string { return append(args, "--socket", p.socket) }

func TestPoliciesAreHeldToCasesWithoutAnAgent(t *testing.T) {
	p := newPolicyTrial(t)
	p.policy(0, []string{"test", "-f", p.file}, "ok: 2 accesses in 1 case against 1 policy")
	wrong := filepath.Join(filepath.Dir(p.file), "wrong.yaml")
	p.write(wrong, strings.ReplaceAll(strings.ReplaceAll(shadowPolicy, "SECRET", p.secret), "read /etc/passwd", "read "+p.secret))
	p.policy(1, []string{"test", "-f", wrong}, "FAIL "+wrong+":17", "must be allowed: denied by files.deny[0] of policy secrets")
	p.write(wrong, "kind: PolicyTest\n")
	p.policy(2, []string{"test", "-f", wrong}, wrong+":1:1: apiVersion", wrong+":1:1: cases")
}

func TestPoliciesAreTriedOnWhatHappened(t *testing.T) {
	p := newPolicyTrial(t)
	p.start()
	for range 3 {
		if err := exec.Command("/bin/cat", p.secret).Run(); err != nil {
			t.Fatal(err)
		}
	}
	var event map[string]any
	p.await("the reads to be told", func() bool {
		stdout, _, _ := run(t, nil, p.asked("events", "--path", p.secret, "--type", "file", "-o", "json")...)
		return strings.Contains(stdout, p.secret)
	})
	event = p.awaitEvent("the read", func(e map[string]any) bool { return get(e, "file.path") == p.secret })
	p.policy(0, p.asked("simulate", "-f", p.file), "COUNT", "secrets", "files.deny[0]", "cat", "read "+p.secret)
	p.policy(1, p.asked("simulate", "-f", p.file, "--since", "1h", "--fail"), "would have denied")
	p.policy(0, p.asked("explain", itoa(int(event["seq"].(float64)))), "read", p.secret, "no policy in force speaks of it")
	p.policy(1, p.asked("explain", "4000000000"), "is not remembered")
	workload, _ := get(event, "process.workload.name").(string)
	p.policy(0, p.asked("learn", "--workload", workload), "kind: WorkloadPolicy", "mode: audit", "learned from")
	p.policy(1, p.asked("learn", "--workload", "none.service"), "nothing to learn from", "`vigie ps`")
	done := make(chan struct{})
	go func() {
		defer close(done)
		for range 20 {
			_ = exec.Command("/bin/cat", p.secret).Run()
		}
	}()
	learned := filepath.Join(filepath.Dir(p.file), "learned.yaml")
	p.policy(0, p.asked("learn", "--workload", workload, "--for", "2s", "-o", learned), "wrote "+learned)
	<-done
	p.policy(0, p.asked("simulate", "-f", learned, "--since", "1s"), "would have denied")
	p.stop()
}

func TestARecordingIsJudgedWithoutAnAgent(t *testing.T) {
	p := newPolicyTrial(t)
	p.start()
	recording := filepath.Join(filepath.Dir(p.file), "r.vigie")
	record := exec.Command(vigie(t), "record", "--quiet", "--socket", p.socket, recording)
	if err := record.Start(); err != nil {
		t.Fatal(err)
	}
	p.await("a read in the recording", func() bool {
		if err := exec.Command("/bin/cat", p.secret).Run(); err != nil {
			t.Fatal(err)
		}
		stdout, _, code := run(t, nil, "policy", "simulate", "-f", p.file, "--capture", recording)
		return code == 0 && strings.Contains(stdout, "read "+p.secret)
	})
	if err := record.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	if err := record.Wait(); err != nil {
		t.Error(err)
	}
	p.stop()
	p.policy(1, []string{"simulate", "-f", p.file, "--capture", recording, "--fail"}, "secrets", "read "+p.secret, "in "+recording)
}

// killPolicy denies a shell of the test's own to run a program of the test's own.
const killPolicy = `apiVersion: vigie.io/v1alpha1
kind: WorkloadPolicy
metadata: {name: kills}
spec:
  selector: {binary: DIR/sh}
  mode: enforce
  onDenied: kill
  processes:
    deny: [{path: DIR/forbidden}]
`

// forbids is killPolicy about a program of the test, and whether that runs.
func (p *policyTrial) forbids() (policy string, runs func() bool) {
	p.t.Helper()
	bin := p.t.TempDir()
	for name, from := range map[string]string{"sh": "/bin/sh", "forbidden": "/bin/true"} {
		program, err := os.ReadFile(from)
		if err != nil {
			p.t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(bin, name), program, 0o755); err != nil {
			p.t.Fatal(err)
		}
	}
	return strings.ReplaceAll(killPolicy, "DIR", bin), func() bool {
		return exec.Command(filepath.Join(bin, "sh"), "-c", filepath.Join(bin, "forbidden")+" || exit 1").Run() == nil
	}
}

func TestAPolicyIsInForceUntilItIsDeleted(t *testing.T) {
	p := newPolicyTrial(t)
	// The rung of every kernel, and none that answers for the files of a whole mount.
	backends := []string{"--policy-dir", p.policies, "--enforce-backends", "execkill"}
	p.agent = startAgent(t, backends...)
	policy, runs := p.forbids()
	p.write(p.file, policy)
	if !runs() {
		t.Fatal("the program does not run without a policy")
	}
	p.policy(0, p.asked("apply", "-f", p.file, "--dry-run"), "would be in force", "processes.deny[0]")
	if !runs() {
		t.Error("a dry run denied")
	}
	p.policy(0, p.asked("apply", "-f", p.file), "policy kills: in force, enforce")
	if runs() {
		t.Error("the program runs though a policy denies it")
	}
	p.await("the hit to be counted", func() bool {
		stdout, _, _ := run(t, nil, p.asked("policy", "show", "kills", "-o", "json")...)
		return strings.Contains(stdout, `"hits":"1"`) || strings.Contains(stdout, `"hits": "1"`)
	})
	p.policy(0, p.asked("mode", "kills", "audit"), "in force, audit")
	if !runs() {
		t.Error("a policy that only audits denied")
	}
	p.policy(0, p.asked("mode", "kills", "enforce"), "in force, enforce")
	p.stop()
	if !runs() {
		t.Error("a policy acts without an agent, and does not say onAgentExit: keep")
	}

	// The next agent has it in force again, with the mode that was set.
	next := newAgent(t, p.dir, backends...)
	next.start()
	p.agent = next
	p.policy(0, p.asked("list"), "kills", "enforce")
	if runs() {
		t.Error("the policy did not survive the restart")
	}
	p.policy(0, p.asked("delete", "kills"), "deleted")
	if !runs() {
		t.Error("a deleted policy denies")
	}

	// The same as a file.
	file := filepath.Join(p.policies, "kills.yaml")
	p.write(file, policy)
	p.await("the file to act", func() bool { return !runs() })
	p.policy(1, p.asked("delete", "kills"), "policy kills is kept in "+file)
	p.policy(1, p.asked("apply", "-f", p.file), "policy kills is kept in "+file)
	p.write(file, strings.Replace(policy, "deny:", "forbid:", 1))
	p.await("the broken file to be told", func() bool { return p.call("Health")["ready"] != true })
	if runs() {
		t.Error("a broken file took its policy out of force")
	}
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	p.await("the policy to go with its file", runs)
	p.stop()
}

func TestMistakesInPoliciesAreTold(t *testing.T) {
	p := newPolicyTrial(t)
	p.start()
	p.policy(0, p.asked("list"), "there are no policies")
	p.policy(1, p.asked("show", "secrets"), "`vigie policy list`")
	p.policy(1, p.asked("delete", "secrets"), "there is no policy")
	p.policy(1, p.asked("mode", "secrets", "audit"), "there is no policy")
	p.write(p.file, strings.Replace(shadowPolicy, "deny:", "forbid:", 1))
	p.policy(2, p.asked("apply", "-f", p.file), p.file+":8:5: spec.files.forbid")
	p.policy(2, p.asked("simulate", "-f", p.file), p.file+":8:5: spec.files.forbid")

	// A broken file: the agent says that it is not ready, and is again without it.
	broken := filepath.Join(p.policies, "broken.yaml")
	p.write(broken, "kind: [")
	p.await("the broken file to be told", func() bool { return p.call("Health")["ready"] != true })
	p.policy(0, p.asked("list"), "broken", "failed", broken+":1")
	if stdout, _, code := run(t, nil, p.asked("status")...); code != 1 || !strings.Contains(stdout, broken+":1") {
		t.Errorf("status: exit %d\n%s", code, stdout)
	}
	if err := os.Remove(broken); err != nil {
		t.Fatal(err)
	}
	p.await("the agent to be ready", func() bool { return p.call("Health")["ready"] == true })
	if log := p.log.String(); !strings.Contains(log, broken+":1") {
		t.Errorf("the log does not name the broken file: %s", log)
	}
	p.stop()
}

func TestOnlyRootChangesPolicies(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root: it asks as another user (CAP_SETUID)")
	}
	p := newPolicyTrial(t)
	dir, err := os.MkdirTemp("", "vigie-e2e-") // one that other users can enter
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	testkit.RequireBPF(t)
	p.agent = newAgent(t, dir, "--policy-dir", p.policies, "--socket-group", "4711")
	p.agent.start()
	member := &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534, Groups: []uint32{4711}}}
	if stdout, stderr, code := run(t, member, p.asked("policy", "list")...); code != 0 || !strings.Contains(stdout, "there are no policies") {
		t.Errorf("list: exit %d: %s%s", code, stdout, stderr)
	}
	const says = "uid 65534 may look at policies and not change them: ask as root"
	for _, args := range [][]string{{"policy", "delete", "x"}, {"policy", "mode", "x", "audit"}, {"policy", "apply", "-f", "/dev/null"}} {
		if _, stderr, code := run(t, member, p.asked(args...)...); code != 2 || !strings.Contains(stderr, says) {
			t.Errorf("%v: exit %d: %s", args, code, stderr)
		}
	}
	p.stop()
}
