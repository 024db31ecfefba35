// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"cmp"
	"fmt"
	"maps"
	"net/netip"
	"regexp"
	"slices"
	"strings"

	"github.com/vigie-io/vigie/internal/model"
)

// write writes the policy.
func (s *student) write(name string) string {
	w := &writer{safe: regexp.MustCompile(`^[A-Za-z0-9/_.][A-Za-z0-9/_.+@*-]*$`)}
	w.line("# Learned from %d events of workload %s. Look at it, then set mode: enforce.", s.events, shown(s.options.Workload))
	w.line("apiVersion: %s\nkind: %s\nmetadata: {name: %s}\nspec:", APIVersion, Kind, w.quote(name))
	w.line("  selector: %s", w.selector(s.selector()))
	w.line("  mode: audit")
	if len(s.execs) > 0 && s.keeps("processes") {
		w.line("  processes:%s\n    allow:", s.accepts("processes", "    "))
		for _, path := range slices.Sorted(maps.Keys(s.execs)) {
			w.rule("    ", w.quote(globOf(path)), s.execs[path].String())
		}
	}
	if rules := s.files.rules(); len(rules) > 0 && s.keeps("files") {
		w.line("  files:%s\n    allow:", s.accepts("files", "    "))
		w.files(rules)
	}
	s.writeNetwork(w)
	switch {
	case len(s.caps) == 0:
		s.notes["no use of a capability was seen, so the policy has no capabilities section; the agent may not have recorded them"] = true
	case s.keeps("capabilities"):
		w.line("  capabilities:%s\n    allow:", s.accepts("capabilities", "    "))
		if s.caps["CAP_SYS_ADMIN"] != nil {
			s.notes["CAP_SYS_ADMIN is among what was used: the kernel asks for it in passing, of root, also where nothing needs it; try the policy without it"] = true
		}
		for _, c := range slices.Sorted(maps.Keys(s.caps)) {
			w.rule("    ", c, s.caps[c].String())
		}
	}
	s.writeOperations(w)
	return w.b.String()
}

// writeOperations denies what was not seen. What begins a workload may do what the workload itself never does (a service manager
// mounts file systems for it), so its beginning must have been seen.
func (s *student) writeOperations(w *writer) {
	unseen := slices.DeleteFunc(slices.Clone(operationNames()), func(name string) bool { return s.did[name] })
	switch {
	case len(unseen) == 0:
	case !s.began:
		s.notes["the section operations was left out: how the workload begins was not seen; restart it while this learns"] = true
	case s.keeps("operations"):
		w.line("  operations:%s\n    deny: %s # not seen", s.accepts("operations", "    "), "["+strings.Join(unseen, ", ")+"]")
	}
}

// keeps reports whether a section is written.
func (s *student) keeps(section string) bool {
	why, left := s.options.LeaveOut[section]
	if left {
		s.notes["the section "+section+" was left out: "+why] = true
	}
	return !left
}

// accepts is weaker: accept, as a line of a section that needs it; else nothing.
func (s *student) accepts(section, indent string) string {
	why, weaker := s.options.Weaker[section]
	if !weaker {
		return ""
	}
	s.notes["the section "+section+" says weaker: accept: "+why] = true
	return "\n" + indent + "weaker: accept # this kernel cannot deny all of it before it happens"
}

type writer struct {
	b    strings.Builder
	safe *regexp.Regexp
}

func (w *writer) line(format string, args ...any) { fmt.Fprintf(&w.b, format+"\n", args...) }

// rule writes an entry of a list, with a comment.
func (w *writer) rule(indent, rule, comment string) {
	w.line("%s- %s # %s", indent, rule, shown(comment))
}

// quote writes a text so that YAML takes it for one, in any place.
func (w *writer) quote(text string) string {
	if w.safe.MatchString(text) && (strings.HasPrefix(text, "/") || matches(nameSyntax, text) && strings.ContainsAny(text, "ghijklmopqrstuvwxyz") && !contains([]string{"yes", "no", "on", "off", "true", "null"}, text)) {
		return text
	}
	return "'" + strings.ReplaceAll(text, "'", "''") + "'"
}

func (w *writer) list(texts []string) string {
	quoted := make([]string, len(texts))
	for i, t := range texts {
		quoted[i] = w.quote(t)
	}
	if len(quoted) == 1 {
		return quoted[0]
	}
	return "[" + strings.Join(quoted, ", ") + "]"
}

func (w *writer) selector(s Selector) string {
	var parts []string
	if len(s.MatchLabels) > 0 {
		var labels []string
		for _, k := range slices.Sorted(maps.Keys(s.MatchLabels)) {
			labels = append(labels, "'"+strings.ReplaceAll(k, "'", "''")+"': '"+strings.ReplaceAll(s.MatchLabels[k], "'", "''")+"'")
		}
		parts = append(parts, "matchLabels: {"+strings.Join(labels, ", ")+"}")
	}
	for _, p := range [...]struct{ name, value string }{{"unit", s.Unit}, {"container", s.Container}, {"user", s.User}, {"binary", s.Binary}} {
		if p.value != "" {
			parts = append(parts, p.name+": "+w.quote(p.value))
		}
	}
	return "{" + strings.Join(parts, ", ") + "}"
}

// fileRule is a path of the tree with how it was used.
type fileRule struct {
	glob string
	node *node
}

// rules lists the tree, by path.
func (t *tree) rules() []fileRule {
	var out []fileRule
	var walk func(n *node, at string)
	walk = func(n *node, at string) {
		if n.access() != (access{}) {
			out = append(out, fileRule{at, n})
		}
		for _, all := range n.all {
			out = append(out, fileRule{at + "/*", all})
		}
		if n.deep != nil {
			out = append(out, fileRule{at + "/**", n.deep})
		}
		for name, child := range n.children {
			walk(child, at+"/"+name)
		}
	}
	walk(t.root, "")
	slices.SortFunc(out, func(a, b fileRule) int {
		return cmp.Or(cmp.Compare(a.glob, b.glob), cmp.Compare(fmt.Sprint(a.node.access()), fmt.Sprint(b.node.access())))
	})
	return out
}

// files writes the rules of files: first what every program needs to begin, then the rest.
func (w *writer) files(rules []fileRule) {
	loads := func(r fileRule) bool {
		return r.node.access() == access{Read: true} &&
			(r.glob == "/etc/ld.so.cache" || libraries(r.glob[:max(1, strings.LastIndexByte(r.glob, '/'))]) && (strings.HasSuffix(r.glob, ".so") || strings.Contains(r.glob, ".so.")))
	}
	for i, group := range [][]fileRule{slices.DeleteFunc(slices.Clone(rules), func(r fileRule) bool { return !loads(r) }), slices.DeleteFunc(slices.Clone(rules), loads)} {
		if len(group) > 0 && i == 0 {
			w.line("    # shared libraries")
		} else if len(group) > 0 && i == 1 && len(group) < len(rules) {
			w.line("    # all else")
		}
		for _, r := range group {
			w.file(r)
		}
	}
}

func (w *writer) file(r fileRule) {
	var ops []string
	total := uint64(0)
	for op := Read; op <= Modify; op++ {
		if r.node.uses[op] > 0 {
			ops = append(ops, string(op.operation()))
			total = max(total, r.node.uses[op]) // an open for both is one
		}
	}
	comment := times(total)
	switch n := len(r.node.paths); {
	case n == maxPaths:
		comment += fmt.Sprintf(", more than %d files, such as %s", n, r.node.sample())
	case n > 1:
		comment += fmt.Sprintf(", %d files, such as %s", n, r.node.sample())
	case globOf(r.node.sample()) != r.glob:
		comment += ": " + r.node.sample()
	}
	w.rule("    ", "{path: "+w.quote(r.glob)+", access: "+w.list(ops)+"}", comment)
}

// netKey is a conversation: with whom, on which port.
type netKey struct {
	direction Direction
	name      string     // by which the address was asked for
	address   netip.Addr // where there is no name
	ports     PortRange
}

// Ports from which the kernel takes one when a program does not ask for any (net.ipv4.ip_local_port_range).
const (
	firstChosen = 32768
	lastChosen  = 60999
)

func netKeyOf(a Access) netKey {
	k := netKey{ports: PortRange{a.Port, a.Port, a.Protocol}, address: a.Address.Unmap().WithZone("")}
	if !hasPorts(a.Protocol) {
		k.ports = PortRange{0, 65535, a.Protocol}
	}
	switch a.Operation {
	case model.OpAccept:
		k.direction = Ingress
	case model.OpBind, model.OpListen:
		k.direction = Listen
		if a.Port >= firstChosen && a.Port <= lastChosen {
			k.ports.First, k.ports.Last = firstChosen, lastChosen
		}
	default:
		if len(a.Names) > 0 && badFQDN(a.Names[0]) == "" && !strings.Contains(a.Names[0], "*") {
			k.name, k.address = a.Names[0], netip.Addr{}
		}
	}
	return k
}

// manyAddresses is from how many remote addresses on a service is taken to be for everybody.
const manyAddresses = 8

// writeNetwork writes a rule for all addresses, and one for all names, that were used with the same ports. A direction in
// which nothing was seen beside the others is allowed nothing.
func (s *student) writeNetwork(w *writer) {
	begun := false
	for d := Egress; d < Directions; d++ {
		type end struct {
			named bool
			ports PortRange
		}
		ends := map[end][]netKey{}
		for k := range s.net {
			if k.direction == d {
				e := end{k.name != "", k.ports}
				ends[e] = append(ends[e], k)
			}
		}
		if len(s.net) == 0 || !s.keeps("network") || !s.keeps("network."+d.String()) {
			continue
		}
		if !begun {
			w.line("  network:")
			begun = true
		}
		if len(ends) == 0 {
			w.line("    %s:%s\n      allow: [] # nothing was seen", d, s.accepts("network."+d.String(), "      "))
			continue
		}
		w.line("    %s:%s\n      allow:", d, s.accepts("network."+d.String(), "      "))
		for _, e := range slices.SortedFunc(maps.Keys(ends), func(a, b end) int {
			return cmp.Or(cmp.Compare(a.ports.Protocol, b.ports.Protocol), cmp.Compare(a.ports.First, b.ports.First), cmp.Compare(fmt.Sprint(a.named), fmt.Sprint(b.named)))
		}) {
			keys := ends[e]
			slices.SortFunc(keys, func(a, b netKey) int { return cmp.Or(cmp.Compare(a.name, b.name), a.address.Compare(b.address)) })
			var texts []string
			all := &evidence{}
			for _, k := range keys {
				one := s.net[k]
				for _, by := range one.by {
					all.add(0, by)
				}
				all.count, all.more = all.count+one.count, all.more || one.more
				if e.named {
					texts = append(texts, k.name)
				} else {
					texts = append(texts, k.address.String())
				}
			}
			field := [...]string{"to", "from", "on"}[d]
			to, comment := field+": {cidr: "+w.list(texts)+"}, ", all.String()
			if e.named {
				to = field + ": {fqdn: " + w.list(texts) + "}, "
			}
			if d == Ingress && len(keys) >= manyAddresses {
				to, comment = "", fmt.Sprintf("%s, from %d addresses: so from anywhere", comment, len(keys))
			}
			w.rule("      ", "{"+to+"ports: "+w.quote(e.ports.String())+"}", comment)
		}
	}
	if len(s.net) == 0 {
		s.notes["no conversation was seen, so the policy has no network section"] = true
	}
}
