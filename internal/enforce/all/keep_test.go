// SPDX-License-Identifier: Apache-2.0

package all

import (
	"os"
	"os/exec"
	"strconv"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/vigie-io/vigie/internal/testkit"
)

const agentEnv = "VIGIE_ENFORCE_TEST_AGENT"

// TestAgent is not a test: it is the agent that TestAgentDies kills. It applies the policy of its environment and waits.
func TestAgent(t *testing.T) {
	spec := os.Getenv(agentEnv)
	if spec == "" {
		t.Skip("needs to be started by TestAgentDies")
	}
	w := newWorldIn(t, os.Getenv("DIR"), "execkill")
	w.apply(spec)
	writeFile(t, w.dir+"/ready", nil, 0o644)
	var b [1]byte
	_, _ = os.Stdin.Read(b[:]) // never comes
}

// When the agent is killed, a policy stays in force or goes, as it says.
func TestAgentDies(t *testing.T) {
	for _, c := range []struct{ exit, after string }{{"release", "ok"}, {"keep", "killed"}} {
		t.Run(c.exit, func(t *testing.T) {
			testkit.RequireBPF(t)
			w := &world{t: t, dir: ownMount(t)}
			w.actor = w.dir + "/bin/actor"
			copyFile(t, "/proc/self/exe", w.actor)
			copyFile(t, w.actor, w.dir+"/bin/bad")
			agent := exec.Command("/proc/self/exe", "-test.run=^TestAgent$")
			agent.Env = append(os.Environ(), "DIR="+w.dir,
				agentEnv+"=\tmode: enforce\n\tweaker: accept\n\tonAgentExit: "+c.exit+"\n\tprocesses: {deny: [{path: \"{dir}/bin/bad\"}]}")
			agent.Stdout, agent.Stderr = os.Stderr, os.Stderr
			stdin, err := agent.StdinPipe()
			if err != nil {
				t.Fatal(err)
			}
			defer stdin.Close()
			if err := agent.Start(); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() {
				if err := os.RemoveAll(pinDir(agent.Process.Pid)); err != nil {
					t.Error(err)
				}
				// Unpinned, the programs go when the kernel has freed them.
				w.await("ok", "exec", "{dir}/bin/bad", "nothing")
			})
			for end := time.Now().Add(testkit.Deadline); ; time.Sleep(5 * time.Millisecond) {
				if _, err := os.Stat(w.dir + "/ready"); err == nil {
					break
				}
				if time.Now().After(end) {
					t.Fatal("the agent applied nothing")
				}
			}
			w.expect("killed", "exec", "{dir}/bin/bad", "nothing")
			if err := agent.Process.Signal(unix.SIGKILL); err != nil {
				t.Fatal(err)
			}
			_ = agent.Wait()
			w.await(c.after, "exec", "{dir}/bin/bad", "nothing")
			w.expect("ok", "exec", "{dir}/bin/actor", "nothing")
			if c.exit == "keep" {
				w.expect("killed", "exec", "{dir}/bin/bad", "nothing")
			}
		})
	}
}

// await does a deed until it goes as wanted.
func (w *world) await(want string, args ...string) {
	w.t.Helper()
	var got string
	for end := time.Now().Add(testkit.Deadline); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		if got = w.do(args...); got == want {
			return
		}
	}
	w.t.Errorf("%v: %s, want %s", args, got, want)
}

func pinDir(pid int) string { return "/sys/fs/bpf/vigie-test-" + strconv.Itoa(pid) }
