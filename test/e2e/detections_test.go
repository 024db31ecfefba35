// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"bufio"
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"github.com/vigie-io/vigie/internal/testkit"
)

// behaviour is a row of testdata/behaviours.yaml.
type behaviour struct {
	Rule, Hit, Miss, In, Recorded string
}

func behaviours(t *testing.T) []behaviour {
	t.Helper()
	data, err := os.ReadFile("testdata/behaviours.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var list []behaviour
	if err := yaml.Unmarshal(data, &list); err != nil {
		t.Fatal(err)
	}
	return list
}

// rulesOfBinary lists the rules that come with vigie.
func rulesOfBinary(t *testing.T) []string {
	t.Helper()
	out, errs, code := run(t, nil, "rules", "list", "--local", "--rules-dir", filepath.Join(t.TempDir(), "none"), "-o", "json")
	if code != 0 {
		t.Fatal(errs)
	}
	var ids []string
	for line := range strings.Lines(out) {
		var d struct{ ID string }
		if err := json.Unmarshal([]byte(line), &d); err != nil {
			t.Fatal(err)
		}
		ids = append(ids, d.ID)
	}
	return ids
}

// Each default rule finds what it is for when a real process does it, and is silent about the near miss.
func TestDefaultRulesFindRealBehaviour(t *testing.T) {
	testkit.RequireBPF(t)
	rules, rows := rulesOfBinary(t), behaviours(t)
	have := make(map[string]bool)
	for _, b := range rows {
		have[b.Rule] = true
		if (b.Recorded == "") == (b.Hit == "" || b.Miss == "") {
			t.Errorf("%s: give hit and miss, or say why the behaviour cannot be done", b.Rule)
		}
	}
	var changes strings.Builder
	changes.WriteString("changes:\n")
	for _, id := range rules {
		if !have[id] {
			t.Errorf("rule %s is not in testdata/behaviours.yaml", id)
		}
		fmt.Fprintf(&changes, "- {rule: %s, rate: unlimited}\n", id) // others on this machine may do the same
	}
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "test.yaml"), []byte(changes.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	w := &world{agent: startAgent(t, "--rules-dir", dir), dns: dnsServer(t)}
	w.tree()
	for _, b := range rows {
		if b.Recorded != "" {
			continue
		}
		t.Run(b.Rule, func(t *testing.T) {
			w.t = t
			if found := w.alerts(b, b.Miss, false); found[b.Rule] != "" {
				t.Errorf("the near miss raises it: %s\n%s", b.Miss, found[b.Rule])
			}
			w.alerts(b, b.Hit, true)
		})
	}
}

// world runs behaviours and reads what the agent says of them.
type world struct {
	*agent
	dns  string
	file *bufio.Reader
	n    int // of behaviours so far
}

// tree begins to read the agent's export.
func (w *world) tree() {
	w.t.Helper()
	f, err := os.Open(w.json)
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { f.Close() })
	w.file = bufio.NewReaderSize(f, 1<<20)
}

// alerts runs a behaviour and returns the alerts that its processes raised, the message by rule: until the rule's own, when that is
// wanted, else until all is reported that had happened when it was done.
func (w *world) alerts(b behaviour, command string, wanted bool) map[string]string {
	w.t.Helper()
	w.n++
	mark := filepath.Join(w.dir, fmt.Sprintf("mark-%d", w.n))
	if err := os.WriteFile(mark, nil, 0o600); err != nil {
		w.t.Fatal(err)
	}
	cmd := exec.Command("unshare", "-m", "--propagation", "private", "sh", "testdata/enter.sh", command)
	dir, err := os.MkdirTemp("/tmp", "vigie-behaviour-")
	if err != nil {
		w.t.Fatal(err)
	}
	defer os.Remove(dir)
	cmd.Env = append(os.Environ(), "W="+dir, "DNS_SERVER="+w.dns)
	if b.In == "container" {
		cmd.Env = append(cmd.Env, "CGROUP="+container(w.t))
	}
	out, err := cmd.CombinedOutput()
	if cmd.Process == nil {
		w.t.Fatal(err)
	}
	pids := map[float64]bool{float64(cmd.Process.Pid): true}
	if err := exec.Command("cat", mark).Run(); err != nil {
		w.t.Fatal(err)
	}
	found, marked := map[string]string{}, false
	var line []byte
	w.await("the alert "+b.Rule+" of: "+command+"\nwhich said: "+string(out), func() bool {
		for {
			part, err := w.file.ReadBytes('\n')
			line = append(line, part...)
			if err != nil {
				break // more comes
			}
			whole := line
			line = line[:0]
			// A busy machine writes a lot beside: only what matters is taken apart.
			if !bytes.Contains(whole, []byte(`"type":"fork"`)) && !bytes.Contains(whole, []byte(`"type":"alert"`)) && !bytes.Contains(whole, []byte(mark)) {
				continue
			}
			var e map[string]any
			if err := json.Unmarshal(whole, &e); err != nil {
				w.t.Fatal(err)
			}
			pid, _ := get(e, "process.pid").(float64)
			parent, _ := get(e, "process.parent.pid").(float64)
			if e["type"] == "fork" && pids[parent] {
				pids[pid] = true
			}
			if rule, ok := get(e, "alert.rule").(string); ok && pids[pid] {
				found[rule] = fmt.Sprint(get(e, "alert.message"))
			}
			marked = marked || get(e, "file.path") == mark
		}
		return wanted && found[b.Rule] != "" || !wanted && marked
	})
	return found
}

// container is a cgroup whose path is that of a container.
func container(t *testing.T) string {
	t.Helper()
	root := "/sys/fs/cgroup/unified"
	if _, err := os.Stat(root); err != nil {
		root = "/sys/fs/cgroup"
	}
	id := make([]byte, 32)
	_, _ = rand.Read(id)
	dir := filepath.Join(root, "vigie-test", "docker", hex.EncodeToString(id))
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		await(t, "the container to be empty", func() bool { return os.Remove(dir) == nil })
		_ = os.Remove(filepath.Dir(dir))
		_ = os.Remove(filepath.Dir(filepath.Dir(dir)))
	})
	return dir
}

// dnsServer knows names that begin with "kubernetes", and no other. It returns its address.
func dnsServer(t *testing.T) string {
	t.Helper()
	const address = "127.77.0.53"
	conn, err := net.ListenPacket("udp", address+":53")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	t.Cleanup(func() { conn.Close(); <-done })
	go func() {
		defer close(done)
		answer(t, conn, func(name string) netip.Addr {
			if strings.HasPrefix(name, "kubernetes.") {
				return netip.MustParseAddr("127.77.0.54")
			}
			return netip.Addr{}
		})
	}()
	return address
}
