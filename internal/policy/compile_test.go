// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"strings"
	"testing"

	"github.com/vigie-io/vigie/internal/model"
)

// testEnv knows one user.
func testEnv() Env {
	return Env{UserID: func(name string) (uint32, error) {
		if name == "www-data" {
			return 33, nil
		}
		return 0, errors.New("no such user")
	}}
}

func mustParse(t testing.TB, yaml string) *Policy {
	t.Helper()
	policies, err := Parse("test.yaml", []byte(yaml))
	if err != nil {
		t.Fatalf("%v\nin\n%s", err, yaml)
	}
	if len(policies) != 1 {
		t.Fatalf("%d policies, not 1", len(policies))
	}
	return policies[0]
}

func mustCompile(t testing.TB, yaml string) *Table {
	t.Helper()
	table, err := Compile(mustParse(t, yaml), testEnv())
	if err != nil {
		t.Fatal(err)
	}
	return table
}

// world makes random policies and accesses of few things, so that rules overlap.
type world struct{ *rand.Rand }

func (w world) of(choices ...string) string { return choices[w.IntN(len(choices))] }

func (w world) some(n int, one func() string) string {
	var list []string
	for range 1 + w.IntN(n) {
		list = append(list, one())
	}
	return "[" + strings.Join(list, ", ") + "]"
}

func (w world) quoted(glob string) string { return "'" + glob + "'" }

func (w world) actors() string {
	out := ""
	for _, name := range []string{"by", "parent"} {
		if w.IntN(4) == 0 {
			out += fmt.Sprintf(", %s: %s", name, w.some(2, func() string { return w.quoted(w.glob()) }))
		}
	}
	return out
}

func (w world) glob() string {
	for {
		if g := randomGlob(w.Rand); badPath(g) == "" {
			return g
		}
	}
}

func (w world) lists(b *strings.Builder, indent string, rule func() string) {
	allow := w.IntN(3) > 0
	for i, name := range []string{"deny", "allow"} {
		if (i == 1 && !allow) || (i == 0 && allow && w.IntN(2) == 0) {
			continue
		}
		if i == 1 && w.IntN(10) == 0 {
			fmt.Fprintf(b, "%sallow: []\n", indent)
			continue
		}
		fmt.Fprintf(b, "%s%s:\n", indent, name)
		for range 1 + w.IntN(5) {
			fmt.Fprintf(b, "%s- {%s%s}\n", indent, rule(), w.actors())
		}
	}
}

func (w world) cidr() string {
	return w.of("10.0.0.0/8", "10.1.0.0/16", "10.1.0.0/24", "10.1.0.1", "0.0.0.0/0", "'::/0'", "fd00::/8", "fd00::1", "'::ffff:10.1.0.0/112'", "192.168.0.0/16", "0.0.0.0/1")
}

func (w world) network(end string) string {
	rule := ""
	switch n := w.IntN(10); {
	case n < 5:
		rule = fmt.Sprintf("%s: {cidr: %s", end, w.some(2, w.cidr))
		if w.IntN(3) == 0 {
			rule = end + ": {cidr: [10.0.0.0/8, fd00::/8], except: " + w.of("10.1.0.0/16", "[10.1.0.1, fd00::1]", "10.0.0.0/8")
		}
		rule += "}"
	case n < 7 && end == "to":
		rule = fmt.Sprintf("to: {fqdn: %s}", w.some(2, func() string { return w.quoted(w.of("a.org", "*.a.org", "**.a.org", "*.b.a.org", "**.org")) }))
	case n < 8 && end == "to":
		rule = "to: {workload: {" + w.of("unit: db.service", "unit: '*.service'", "container: db") + "}}"
	}
	if rule == "" || w.IntN(2) == 0 {
		if rule != "" {
			rule += ", "
		}
		rule += "ports: " + w.some(3, func() string {
			return w.of("80/tcp", "443/tcp", "80-90/tcp", "85-100/tcp", "53", "'*/udp'", "1000-65535/udp", "icmp", "'*'", "0-1023", "sctp")
		})
	}
	return rule
}

func (w world) policy() string {
	var b strings.Builder
	fmt.Fprintf(&b, "apiVersion: vigie.io/v1alpha1\nkind: WorkloadPolicy\nmetadata: {name: p}\nspec:\n  selector: {}\n  mode: %s\n  onDenied: %s\n",
		w.of("audit", "enforce"), w.of("deny", "kill"))
	any := false
	section := func(name string, body func(*strings.Builder)) {
		if w.IntN(3) > 0 || (!any && name == "operations") {
			any = true
			fmt.Fprintf(&b, "  %s:\n", name)
			body(&b)
		}
	}
	section("processes", func(b *strings.Builder) {
		w.lists(b, "    ", func() string { return "path: " + w.quoted(w.glob()) })
	})
	section("files", func(b *strings.Builder) {
		w.lists(b, "    ", func() string {
			rule := "path: " + w.quoted(w.glob())
			if w.IntN(2) == 0 {
				rule += ", access: " + w.some(2, func() string { return w.of("read", "write", "modify", "all") })
			}
			return rule
		})
	})
	section("network", func(b *strings.Builder) {
		for i, d := range []string{"egress", "ingress", "listen"} {
			if i == 0 || w.IntN(2) == 0 {
				fmt.Fprintf(b, "    %s:\n", d)
				w.lists(b, "      ", func() string { return w.network([]string{"to", "from", "on"}[i]) })
			}
		}
	})
	section("capabilities", func(b *strings.Builder) {
		w.lists(b, "    ", func() string {
			return "caps: " + w.some(3, func() string { return w.of("CAP_CHOWN", "NET_ADMIN", "cap_bpf") })
		})
	})
	section("operations", func(b *strings.Builder) {
		fmt.Fprintf(b, "    deny:\n    - {ops: %s%s}\n    - {ops: ptrace}\n", w.some(2, func() string { return w.of("ptrace", "bpf", "mount", "module") }), w.actors())
	})
	return b.String()
}

func (w world) access() (Subject, Access) {
	s := Subject{randomPath(w.Rand), randomPath(w.Rand)}
	ops := model.Operations()
	a := Access{Operation: ops[w.IntN(len(ops))], Path: randomPath(w.Rand)}
	a.Protocol = []uint8{tcp, tcp, udp, icmp, icmpv6, sctp, 47}[w.IntN(7)]
	if hasPorts(a.Protocol) {
		a.Port = []uint16{0, 1, 52, 53, 54, 79, 80, 84, 85, 90, 91, 100, 101, 443, 999, 1000, 1023, 1024, 65535}[w.IntN(19)]
	}
	a.Address = netip.MustParseAddr(w.of("10.0.0.1", "10.1.0.1", "10.1.0.2", "10.1.1.1", "11.0.0.1", "::ffff:10.1.0.1", "fd00::1", "fd00::2", "2001:db8::1", "192.168.0.1", "255.255.255.255", "::", "::ffff:0:0"))
	for range w.IntN(3) {
		a.Names = append(a.Names, w.of("a.org", "x.a.org", "x.b.a.org", "org", "b.org"))
	}
	for range w.IntN(2) {
		a.Peers = append(a.Peers, &model.Workload{Kind: model.WorkloadUnit, Name: w.of("db.service", "web.service", "x.socket")},
			&model.Workload{Kind: model.WorkloadContainer, Name: w.of("db", "web")})
	}
	a.Capability = []model.Cap{0, 12, 39, 40, 63}[w.IntN(5)]
	return s, a
}

// TestTablesSayWhatTheOracleSays is what the tables are for: random policies, random accesses, one meaning.
func TestTablesSayWhatTheOracleSays(t *testing.T) {
	actions, large := map[Action]int{}, 0
	for seed := range uint64(250) {
		w := world{rand.New(rand.NewPCG(seed, 7))}
		yaml := w.policy()
		table, err := Compile(mustParse(t, yaml), testEnv())
		if errors.Is(err, errTooLarge) {
			large++
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		for range 200 {
			s, a := w.access()
			want, got := table.Policy.Judge(s, a), table.Judgement(table.Decide(s, a))
			if got != want {
				t.Fatalf("%+v\n%+v\ntable %+v\noracle %+v\n%s", s, a, got, want, yaml)
			}
			actions[got.Action]++
		}
	}
	if large > 60 {
		t.Errorf("%d of 250 policies are too large", large)
	}
	for a := ActAllow; a <= ActKill; a++ {
		if actions[a] < 1000 {
			t.Errorf("action %d decided only %d times: the random policies are too much alike", a, actions[a])
		}
	}
}

func TestTableOfAnExample(t *testing.T) {
	table := mustCompile(t, `
apiVersion: vigie.io/v1alpha1
kind: WorkloadPolicy
metadata: {name: web}
spec:
  selector: {user: www-data, binary: /usr/sbin/nginx}
  mode: enforce
  weaker: accept
  processes: {allow: [/usr/sbin/nginx]}
  files: {deny: [{path: /etc/shadow, access: read, by: [/bin/cat, /bin/dd]}]}
  network:
    egress: {allow: [{to: {fqdn: "*.example.org"}, ports: 443/tcp}, {to: {cidr: 10.0.0.0/8, except: 10.9.0.0/16}}]}
`)
	if uid, ok := table.Selection.UID(); uid != 33 || !ok {
		t.Errorf("the user is %d, %v", uid, ok)
	}
	if table.Select.Class("/usr/sbin/nginx") != 1 || table.Select.Class("/usr/sbin/nginx2") != 0 {
		t.Error("the selector's binary is not matched")
	}
	subject := table.Subject("/bin/dd", "/bin/sh")
	for _, c := range []struct {
		got    Decision
		action Action
		field  string
	}{
		{table.File(Exec, "/usr/sbin/nginx", 0), ActAllow, "processes.allow[0]"},
		{table.File(Exec, "/bin/sh", 0), ActDeny, "processes.allow"},
		{table.File(Read, "/etc/shadow", subject), ActDeny, "files.deny[0]"},
		{table.File(Write, "/etc/shadow", subject), ActAllow, ""},
		{table.File(Read, "/etc/shadow", 0), ActAllow, ""},
		{table.Sockets, ActDeny, "network.egress.allow"},
		{table.Net(Egress, tcp, netip.MustParseAddr("10.1.1.1"), 80, 0, nil, nil), ActAllow, "network.egress.allow[1]"},
		{table.Net(Egress, tcp, netip.MustParseAddr("10.9.1.1"), 80, 0, nil, nil), ActDeny, "network.egress.allow"},
		{table.Net(Egress, tcp, netip.MustParseAddr("1.1.1.1"), 443, 0, []uint16{table.Names.Class("a.example.org")}, nil), ActAllow, "network.egress.allow[0]"},
		{table.Net(Listen, tcp, netip.MustParseAddr("0.0.0.0"), 443, 0, nil, nil), ActAllow, ""},
	} {
		if j := table.Judgement(c.got); j.Action != c.action || j.Rule != c.field {
			t.Errorf("%+v, not %d by %q", j, c.action, c.field)
		}
	}
	for i, r := range table.Rules[1:] {
		if r.Field() == "" || table.Text(i+1) == "" || r.Operations == 0 || !r.Weaker {
			t.Errorf("rule %+v says too little", r)
		}
	}
	if text := table.Text(3); text != "read /etc/shadow by /bin/cat or /bin/dd" {
		t.Errorf("the rule is %q", text)
	}
}

func TestWeaker(t *testing.T) {
	table := mustCompile(t, header+`  selector: {}
  processes: {weaker: accept, allow: [/a]}
  files: {deny: [{path: /a, weaker: accept}, /b]}
  network: {egress: {allow: [{ports: 1/tcp}], weaker: accept}, listen: {allow: []}}
  operations: {deny: [ptrace], weaker: accept}
`)
	var got []string
	for _, r := range table.Rules[1:] {
		if r.Weaker {
			got = append(got, r.Field())
		}
	}
	want := "processes.allow[0] processes.allow files.deny[0] network.egress.allow[0] network.egress.allow operations.deny[0]"
	if strings.Join(got, " ") != want {
		t.Errorf("%q may be weaker", got)
	}
	_, err := Compile(mustParse(t, header+"  selector: {user: www-data}\n  files: {deny: [/a]}\n"), Env{})
	if err == nil || !strings.Contains(err.Error(), "write the uid of www-data") {
		t.Error(err)
	}
}

func TestCompileSaysWhatIsTooLarge(t *testing.T) {
	header := "apiVersion: vigie.io/v1alpha1\nkind: WorkloadPolicy\nmetadata: {name: p}\nspec:\n  selector: {}\n"
	var wild, actors, long strings.Builder
	for i := range 40 {
		fmt.Fprintf(&wild, "    - /**/a%d/**/b%d/**\n", i, i)
	}
	for i := range 300 {
		fmt.Fprintf(&actors, "    - {path: /x%d, by: /b%d}\n", i, i)
	}
	for i := range 4000 {
		fmt.Fprintf(&long, "    - /%d/%s\n", i, strings.Repeat("x", 100))
	}
	for _, c := range []struct{ yaml, want string }{
		{"  files:\n    deny:\n" + wild.String(), "/**/a0/**/b0/** (files.deny[0])"},
		{"  files:\n    deny:\n" + actors.String(), "`by` tells more than 256 kinds"},
		{"  files:\n    deny:\n" + long.String(), "split it into several"},
		{"  files: {deny: [/x]}\n  selector: {user: nobody-here}\n", "selector.user"},
	} {
		yaml := header + c.yaml
		if strings.Contains(c.yaml, "selector") {
			yaml = strings.Replace(yaml, "  selector: {}\n", "", 1)
		}
		_, err := Compile(mustParse(t, yaml), testEnv())
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%v, not %s", err, c.want)
		}
	}
}

// largePolicy has n literal path rules and n CIDR rules.
func largePolicy(n int) string {
	var b strings.Builder
	b.WriteString("apiVersion: vigie.io/v1alpha1\nkind: WorkloadPolicy\nmetadata: {name: large}\nspec:\n  selector: {unit: web.service}\n  mode: enforce\n  files:\n    deny:\n")
	for i := range n {
		fmt.Fprintf(&b, "    - {path: /srv/data/%d/part-%d/secret.key, access: [read, write]}\n", i%37, i)
	}
	b.WriteString("  network:\n    egress:\n      deny:\n")
	for i := range n {
		fmt.Fprintf(&b, "      - {to: {cidr: 10.%d.%d.0/24}, ports: [443/tcp]}\n", i/250, i%250)
	}
	return b.String()
}

func BenchmarkParse(b *testing.B) {
	yaml := []byte(largePolicy(1000))
	for b.Loop() {
		if _, err := Parse("large.yaml", yaml); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkCompile(b *testing.B) {
	p := mustParse(b, largePolicy(1000))
	for b.Loop() {
		table, err := Compile(p, testEnv())
		if err != nil {
			b.Fatal(err)
		}
		b.ReportMetric(float64(len(table.Paths.Cells)), "cells")
		b.ReportMetric(float64(len(table.Ports)), "ports")
	}
}

func BenchmarkMatch(b *testing.B) {
	for _, n := range []int{10, 1000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			p := mustParse(b, largePolicy(n))
			table, err := Compile(p, testEnv())
			if err != nil {
				b.Fatal(err)
			}
			for b.Loop() {
				if table.File(Read, "/srv/data/3/part-3/secret.key", 0).Action() != ActDeny {
					b.Fatal("not denied")
				}
			}
		})
	}
}
