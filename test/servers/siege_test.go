// SPDX-License-Identifier: Apache-2.0

package servers

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// server is what the tests ask of one.
type server interface {
	// start starts it in its unit and waits until it serves.
	start()
	// load has it do all that it ever does, with names and data of that label.
	load(label string)
	// serves is the least that it must still do, whatever was denied.
	serves() error
	// pid is that of its first process.
	pid() int
	// stop ends it, as a service manager does.
	stop()
}

// siege is a server under a policy that was learned from it, and who attacks it.
type siege struct {
	t      *testing.T
	agent  *agent
	site   *site
	unit   *unit
	server server
	binary string // of the server
	policy string // its name
	text   string // and what was learned
	traps  *traps
	why    map[string]error // operations that this kernel does not let be denied, and why
	told   []told           // the result of each attack
}

// besiege learns a policy from a server under load and puts it in force. Then the server is started anew and has its load
// again, with other names: nothing of that may be denied.
func besiege(t *testing.T, g *siege) {
	t.Helper()
	g.t = t
	g.unit.create()
	g.server.start()
	g.server.load("first")
	g.server.stop()
	g.unit.remove()

	text, notes := g.agent.learn(g.unit, g.policy)
	t.Logf("%d bytes of policy\n%s%s", len(text), text, notes)
	g.checkReadable(text)
	if out, err := g.agent.simulate(text); err != nil {
		t.Fatalf("it would have denied what it was learned from: %v\n%s", err, out)
	}
	g.text = text
	g.enforce(text)

	loaded := false
	defer func() {
		if !loaded {
			t.Logf("verdicts under load:\n%s", lines(g.agent.verdicts(0)))
		}
	}()
	g.unit.create()
	g.server.start()
	g.server.load("second")
	loaded = true
	// When these are told, by the kernel and by the agent, so is everything before them.
	ends := []attack{
		{"execute a program that the policy does not know", g.exec(implanted+"/implant", "nothing"), "exec", implanted + "/implant", nil},
		{"connect to where nothing is", g.implant(g.unit.as, nil, "connect", elsewhere+":1"), "connect", elsewhere + ":1", nil},
	}
	var last uint64
	for _, end := range ends {
		last = max(last, g.attackOnly(end))
	}
	if others := slices.DeleteFunc(g.agent.verdicts(0), func(v *verdict) bool {
		return slices.ContainsFunc(ends, func(end attack) bool { return end.op == v.operation && end.object == v.object() })
	}); len(others) > 0 {
		t.Fatalf("under load:\n%s", lines(others))
	}
	if out, _, err := g.agent.cli("policy", "explain", strconv.FormatUint(last, 10)); err != nil || !strings.Contains(out, "policy "+g.policy+": ") || !strings.Contains(out, ".allow") {
		t.Errorf("the verdict is explained with %v:\n%s", err, out)
	}
}

// checkReadable holds a learned policy to what a person can review, and to naming no accident of the one run.
func (g *siege) checkReadable(text string) {
	g.t.Helper()
	if n := strings.Count(text, "\n"); n > 150 {
		g.t.Errorf("the policy has %d lines: nobody reads that", n)
	}
	if strings.Contains(text, `path: "/**"`) || strings.Contains(text, "path: /**") {
		g.t.Error("the policy allows every file")
	}
}

// enforce puts a learned policy in force as it is, and finds out which operations this kernel lets be denied.
func (g *siege) enforce(text string) {
	g.t.Helper()
	g.why = make(map[string]error)
	for op, rule := range map[string]string{
		"exec": "onDenied: kill, processes: {deny: [/nowhere]}", "read": "files: {deny: [{path: /nowhere, access: read}]}",
		"write": "files: {deny: [{path: /nowhere, access: write}]}", "modify": "files: {deny: [{path: /nowhere, access: modify}]}",
		"connect": "network: {egress: {deny: [{to: {cidr: 203.0.113.1/32}}]}}", "bind": "network: {listen: {deny: [{ports: [1/tcp]}]}}",
		"capability": "capabilities: {deny: [CAP_SYS_BOOT]}", "ptrace": "operations: {deny: [ptrace]}", "mount": "operations: {deny: [mount]}",
	} {
		err := g.agent.try("apiVersion: vigie.io/v1alpha1\nkind: WorkloadPolicy\nmetadata: {name: probe}\n" +
			"spec: {selector: {unit: vigie-test-none.service}, mode: enforce, " + rule + "}\n")
		if err != nil && !strings.Contains(err.Error(), "weaker: accept") {
			g.t.Fatalf("whether %s can be denied: %v", op, err)
		}
		if (op == "exec" || op == "read") && err != nil && strings.Contains(err.Error(), "nothing here carries") {
			g.t.Skipf("needs a kernel that lets %s be denied: %v", op, err)
		}
		if err != nil {
			g.why[op] = err
			g.t.Logf("%s cannot be denied on this kernel: %v", op, err)
		}
	}
	// Where the kernel denies privileged operations before they happen, what is learned does. Else a second policy of the same
	// unit kills for them.
	more := fmt.Sprintf("---\napiVersion: vigie.io/v1alpha1\nkind: WorkloadPolicy\nmetadata: {name: %s-operations}\n"+
		"spec: {selector: {unit: %s}, mode: enforce, weaker: accept, operations: {deny: [ptrace, bpf, mount, module]}}\n", g.policy, g.unit.name)
	if strings.Contains(text, "\n  operations:\n    deny: [ptrace, bpf, mount, module] ") {
		more = ""
	} else if g.why["ptrace"] == nil {
		g.t.Error("the policy says nothing of privileged operations, which can be denied here")
	}
	changed := strings.Replace(text, "  mode: audit\n", "  mode: enforce\n", 1)
	if changed == text {
		g.t.Fatal("the policy has no mode: audit that could be changed")
	}
	if err := g.agent.apply(changed + more); err != nil {
		g.t.Fatal(err)
	}
}

// attack is something that must be denied.
type attack struct {
	name   string
	do     func() error // nil: it worked, as the attacker sees it
	op     string       // the operation that a verdict must name, or several with | between them
	object string       // and what on: a path, an address, or how it begins when it ends with *
	// happened says that it had an effect; nil where the answer says all.
	happened func() bool
}

// attack does what must not happen, and checks that it does not, that a verdict says so, and that the server still serves.
func (g *siege) attack(list ...attack) {
	g.t.Helper()
	for _, a := range list {
		g.attackOnly(a)
		before := g.agent.lastSeq()
		if err := g.server.serves(); err != nil {
			g.t.Fatalf("%s: the server serves no more: %v\n%s", a.name, err, lines(g.agent.verdicts(before)))
		}
	}
}

// attackOnly is attack for what may end the server; the number of its verdict.
func (g *siege) attackOnly(a attack) uint64 {
	t := g.t
	t.Helper()
	ops := strings.Split(a.op, "|")
	before := g.agent.lastSeq()
	err := a.do()
	late := g.why[ops[0]] != nil // it happens here, and is told
	if err == nil && !late {
		t.Errorf("%s: it worked", a.name)
		return 0
	}
	var found *verdict
	for end := time.Now().Add(deadline); found == nil && time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		list := g.agent.verdicts(before)
		if i := slices.IndexFunc(list, func(v *verdict) bool {
			return (late || v.action == "denied" || v.action == "killed") && slices.Contains(ops, v.operation) && matches(v.object(), a.object)
		}); i >= 0 {
			found = list[i]
		}
	}
	switch {
	case found == nil:
		t.Errorf("%s: ended with %v, but there is no verdict %s %s; there are\n%s", a.name, err, a.op, a.object, lines(g.agent.verdicts(before)))
		return 0
	case !strings.HasPrefix(found.policy, g.policy) || found.rule == "" || found.hook == "" || found.guarantee == "":
		t.Errorf("%s: the verdict does not say what decided: %+v", a.name, found)
	case !late && a.happened != nil && a.happened():
		t.Errorf("%s: denied, and it happened", a.name)
	}
	if who := g.traps.visitors(t); len(who) > 0 {
		t.Errorf("%s: somebody came to %v", a.name, who)
	}
	g.told = append(g.told, told{late, fmt.Sprintf("%-7s %-42s %s: %s", found.action, a.name, found.hook, oneLine(err))})
	return found.seq
}

// uncovered does what no rung of this kernel sees, and says so: a test that leaves it out would hide it.
func (g *siege) uncovered(a attack, why string) {
	g.t.Helper()
	if err := a.do(); err != nil {
		g.t.Errorf("%s is said not to be covered here, because %s; but it failed: %v", a.name, why, err)
	}
	g.told = append(g.told, told{true, fmt.Sprintf("%-7s %-42s %s", "nothing", a.name, why)})
}

// told is how an attack went; late: it happened.
type told struct {
	late bool
	text string
}

func matches(object, want string) bool {
	if begin, ok := strings.CutSuffix(want, "*"); ok {
		return strings.HasPrefix(object, begin)
	}
	return object == want
}

func oneLine(err error) string {
	if err == nil {
		return "it happened"
	}
	text := strings.Join(strings.Fields(err.Error()), " ")
	return text[max(0, len(text)-90):]
}

// report says how every attack went; fewer than least that were denied fail the test.
func (g *siege) report(least int) {
	g.t.Helper()
	var denied, late []string
	for _, one := range g.told {
		if one.late {
			late = append(late, one.text)
		} else {
			denied = append(denied, one.text)
		}
	}
	g.t.Logf("%d attacks were denied:\n%s\n%d were not, on this kernel:\n%s", len(denied), strings.Join(denied, "\n"), len(late), strings.Join(late, "\n"))
	if len(denied) < least {
		g.t.Errorf("%d attacks were denied, fewer than %d", len(denied), least)
	}
}

// exec has the server's user execute a program in the unit, by a process that is there already.
func (g *siege) exec(argv ...string) func() error {
	return g.implant(g.unit.as, nil, append([]string{"exec"}, argv...)...)
}

// implant does a deed in a process that has come into the unit, running a program that the policy does not know.
func (g *siege) implant(as account, stdin []byte, deed ...string) func() error {
	return func() error {
		procs := g.procs()
		defer procs.Close()
		return g.deed(how{as: as, stdin: input(stdin), files: []*os.File{procs}}, implanted+"/implant", append([]string{"-join"}, deed...)...)
	}
}

// procs is what a process writes to in order to come into the unit.
func (g *siege) procs() *os.File {
	g.t.Helper()
	f, err := os.OpenFile(filepath.Join(g.unit.dir, "cgroup.procs"), os.O_WRONLY, 0)
	if err != nil {
		g.t.Fatal(err)
	}
	return f
}

// asServer does a deed in a process that runs what the policy takes for the server: another program under its name.
func (g *siege) asServer(as account, stdin []byte, deed ...string) func() error {
	return func() error {
		real := readFile(g.t, g.binary)
		g.site.put(g.binary, readFile(g.t, program(g.t, "implant")), 0o755)
		defer g.site.put(g.binary, real, 0o755)
		return g.deed(how{as: as, stdin: input(stdin), inside: true}, g.binary, deed...)
	}
}

// deed runs an implant. Error: what it says, unless it is "ok".
func (g *siege) deed(h how, binary string, args ...string) error {
	h.env = quiet()
	text, err := g.unit.finish(h, append([]string{binary}, args...)...)
	switch {
	case err != nil:
		return err
	case text != "ok":
		return errors.New(text)
	}
	return nil
}

// quiet keeps an implant's runtime from opening files.
func quiet() []string { return []string{"GODEBUG=containermaxprocs=0,updatemaxprocs=0"} }

func input(b []byte) io.Reader {
	if b == nil {
		return nil
	}
	return bytes.NewReader(b)
}
