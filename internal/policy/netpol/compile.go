// SPDX-License-Identifier: Apache-2.0

package netpol

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/vigie-io/vigie/internal/model"
	"github.com/vigie-io/vigie/internal/policy"
)

// Compiler makes Worlds, one after another. What does not change from one to the next keeps its tables and its numbers,
// so that a change costs what it touches. Not safe for concurrent use.
type Compiler struct {
	matchers map[string]uint32 // numbers of Peers by what they say; never given twice
	classes  map[string]*Class
	tables   map[string]*Table
	next     uint32 // number of a class
}

// NewCompiler begins without policies.
func NewCompiler() *Compiler {
	return &Compiler{matchers: make(map[string]uint32), classes: make(map[string]*Class), tables: make(map[string]*Table)}
}

// World is policies as they are at one moment, ready to be asked about pods. Its answers are made when they are asked for
// the first time, and kept.
type World struct {
	compiler   *Compiler
	policies   []*Policy // by precedence
	byTarget   map[string][]*Policy
	namespaces map[string]map[string]string // labels by name
	matchers   []*matcher
	byLabel    map[string][]*matcher // see matcherKeys
	names      map[string]bool       // of ports, that Egress rules have
	pods       map[string]*Class     // by what they are
	tables     map[*Table]bool
}

// World compiles policies.
func (c *Compiler) World(policies []*Policy, namespaces []*model.ClusterNamespace) *World {
	w := &World{compiler: c, policies: slices.Clone(policies), byTarget: make(map[string][]*Policy), namespaces: make(map[string]map[string]string),
		byLabel: make(map[string][]*matcher), names: make(map[string]bool), pods: make(map[string]*Class), tables: make(map[*Table]bool)}
	slices.SortStableFunc(w.policies, func(a, b *Policy) int {
		return cmp.Or(cmp.Compare(a.Tier, b.Tier), cmp.Compare(a.Priority, b.Priority), cmp.Compare(a.ID(), b.ID()))
	})
	for _, n := range namespaces {
		w.namespaces[n.Name] = labelsOf(n.Name, n)
	}
	seen := make(map[uint32]bool)
	for _, p := range w.policies {
		w.byTarget[p.Subject.Namespace] = append(w.byTarget[p.Subject.Namespace], p)
		for d := range p.Directions {
			for i := range p.Directions[d].List {
				w.addRule(Direction(d), &p.Directions[d].List[i], seen)
			}
		}
	}
	return w
}

func (w *World) addRule(d Direction, r *Rule, seen map[uint32]bool) {
	for i := range r.Peers {
		if m := w.compiler.matcher(&r.Peers[i]); m != nil && !seen[m.number] {
			seen[m.number] = true
			w.matchers = append(w.matchers, m)
			key := m.key()
			w.byLabel[key] = append(w.byLabel[key], m)
		}
	}
	for _, p := range r.Ports {
		if d == Egress && p.Name != "" {
			w.names[p.Name] = true
		}
	}
}

func (w *World) labels(namespace string) map[string]string {
	if l := w.namespaces[namespace]; l != nil {
		return l
	}
	return labelsOf(namespace, nil)
}

// Tables are those by which a pod is judged: enforced decides, audit tells what policies that only watch would deny; each
// nil when there is none.
func (w *World) Tables(p *model.Pod) (enforced, audit *Table, err error) {
	if p.HostNetwork {
		return nil, nil, nil
	}
	var all, strict []*Policy
	labels := w.labels(p.Namespace)
	for _, list := range [][]*Policy{w.byTarget[""], w.byTarget[p.Namespace]} {
		for _, one := range list {
			if one.Subject.selects(p.Namespace, labels, p.Labels) {
				all = append(all, one)
			}
		}
	}
	// Two lists in order, one behind the other.
	slices.SortStableFunc(all, func(a, b *Policy) int {
		return cmp.Or(cmp.Compare(a.Tier, b.Tier), cmp.Compare(a.Priority, b.Priority), cmp.Compare(a.ID(), b.ID()))
	})
	for _, one := range all {
		if one.Mode != policy.Audit {
			strict = append(strict, one)
		}
	}
	enforced, err = w.table(strict, p.Ports)
	if len(strict) < len(all) {
		var err2 error
		audit, err2 = w.table(all, p.Ports)
		err = errors.Join(err, err2)
	}
	return enforced, audit, err
}

// Retire forgets tables of earlier worlds that this one has not been asked for.
func (w *World) Retire() {
	for key, t := range w.compiler.tables {
		if !w.tables[t] {
			delete(w.compiler.tables, key)
		}
	}
}

func (w *World) table(policies []*Policy, ports []model.PodPort) (*Table, error) {
	if len(policies) == 0 {
		return nil, nil
	}
	var key strings.Builder
	for _, p := range policies {
		fmt.Fprintf(&key, "%p ", p)
	}
	ports = portsNamed(ports, ingressNames(policies))
	fmt.Fprint(&key, ports)
	if t := w.compiler.tables[key.String()]; t != nil {
		w.tables[t] = true
		return t, nil
	}
	t, err := w.compiler.newTable(policies, ports)
	if err != nil {
		return nil, err
	}
	w.compiler.tables[key.String()], w.tables[t] = t, true
	return t, nil
}

func ingressNames(policies []*Policy) map[string]bool {
	names := make(map[string]bool)
	for _, p := range policies {
		for i := range p.Directions[Ingress].List {
			for _, port := range p.Directions[Ingress].List[i].Ports {
				if port.Name != "" {
					names[port.Name] = true
				}
			}
		}
	}
	return names
}

// portsNamed are those of a pod's ports that have one of the names, in order.
func portsNamed(ports []model.PodPort, names map[string]bool) []model.PodPort {
	var out []model.PodPort
	for _, p := range ports {
		if names[p.Name] {
			out = append(out, p)
		}
	}
	slices.SortFunc(out, func(a, b model.PodPort) int {
		return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.Protocol, b.Protocol), cmp.Compare(a.Port, b.Port))
	})
	return slices.Compact(out)
}

// ruleIndex finds the rules of a direction by who the other end is.
type ruleIndex struct {
	rules     []tableRule
	any       []int // that have no Peers
	byMatcher map[uint32][]int
}

type tableRule struct {
	*Rule
	number uint32
	tier   Tier
}

func (c *Compiler) newTable(policies []*Policy, ports []model.PodPort) (*Table, error) {
	t := &Table{Policies: policies, Rules: make([]RuleRef, 1), profiles: make([][]PortAnswer, 1), known: make(map[string]uint32), ports: ports}
	for d := range Directions {
		x := &ruleIndex{byMatcher: make(map[uint32][]int)}
		t.indexes[d] = x
		blocks, outside, domains := map[int][]*Block{}, map[int][]*Block{}, map[string][]int{}
		for _, r := range t.number(policies, d) {
			i := len(x.rules)
			x.rules = append(x.rules, r)
			if r.Peers == nil {
				x.any = append(x.any, i)
			}
			for j := range r.Peers {
				switch p := &r.Peers[j]; {
				case p.Block != nil && p.Block.Outside:
					outside[i] = append(outside[i], p.Block)
				case p.Block != nil:
					blocks[i] = append(blocks[i], p.Block)
				case p.Domain != "":
					domains[p.Domain] = append(domains[p.Domain], i)
				default:
					m := c.matcher(p)
					if list := x.byMatcher[m.number]; len(list) == 0 || list[len(list)-1] != i {
						x.byMatcher[m.number] = append(list, i)
					}
				}
			}
		}
		t.Base[d] = t.profile(d, x.any, nil)
		t.Blocks[d], t.Outside[d] = t.blockProfiles(d, blocks), t.blockProfiles(d, outside)
		if d == Egress {
			for _, pattern := range sortedNames(domains) {
				t.Domains = append(t.Domains, DomainProfile{pattern, t.profile(d, domains[pattern], nil)})
			}
		}
	}
	if len(t.Rules) > MaxRules {
		return nil, fmt.Errorf("the policies of a pod have %d rules together, at most %d fit: %s and others", len(t.Rules), MaxRules, policies[0].ID())
	}
	return t, nil
}

func sortedNames(m map[string][]int) []string {
	out := make([]string, 0, len(m))
	for k := range m {
		out = append(out, k)
	}
	slices.Sort(out)
	return out
}

// number gives the rules of a direction their numbers, in the order in which they are asked.
func (t *Table) number(policies []*Policy, d Direction) (rules []tableRule) {
	add := func(p *Policy, r *Rule) {
		n := uint32(len(t.Rules))
		t.Rules = append(t.Rules, RuleRef{p, r.Field, d, r.Action})
		rules = append(rules, tableRule{r, n, p.Tier})
		t.Speaks[d] = true
	}
	for tier := range Tiers {
		for _, action := range []Action{Deny, Allow, 0} {
			if (tier == Namespace) == (action == 0) {
				continue // of one tier those that deny go first, of the others all go as they come
			}
			for _, p := range policies {
				for i := range p.Directions[d].List {
					if r := &p.Directions[d].List[i]; p.Tier == tier && (action == 0 || r.Action == action) {
						add(p, r)
					}
				}
			}
		}
	}
	for _, p := range policies {
		if p.Tier == Namespace && p.Directions[d].Isolates {
			t.Isolated[d], t.Speaks[d] = uint32(len(t.Rules)), true
			t.Rules = append(t.Rules, RuleRef{p, d.String(), d, Deny})
			break
		}
	}
	return rules
}

// Profile is the number of the profile that a class has in a direction. It may be asked for as long as nobody else asks.
func (t *Table) Profile(d Direction, c *Class) uint32 {
	x := t.indexes[d]
	rules := x.any
	own := false
	for _, m := range c.matched {
		if list := x.byMatcher[m]; len(list) > 0 {
			rules, own = append(rules[:len(rules):len(rules)], list...), true
		}
	}
	if !own && len(c.ports) == 0 {
		return t.Base[d]
	}
	rules = slices.Clone(rules)
	slices.Sort(rules)
	return t.profile(d, slices.Compact(rules), c.ports)
}

// profile is the number of what rules say, which are by their order; destination are the ports of an Egress's other end.
func (t *Table) profile(d Direction, rules []int, destination []model.PodPort) uint32 {
	if d == Ingress {
		destination = t.ports
	}
	var answers []PortAnswer
	for _, protocol := range []uint8{unix.IPPROTO_TCP, unix.IPPROTO_UDP, unix.IPPROTO_SCTP} {
		answers = append(answers, t.paint(d, rules, destination, protocol)...)
	}
	if len(answers) == 0 {
		return 0
	}
	key := fmt.Sprint(answers)
	n, ok := t.known[key]
	if !ok {
		n = uint32(len(t.profiles))
		t.profiles, t.known[key] = append(t.profiles, answers), n
	}
	return n
}

// paint is what rules say of the ports of a protocol.
func (t *Table) paint(d Direction, rules []int, destination []model.PodPort, protocol uint8) []PortAnswer {
	var tiers [Tiers]canvas
	for _, i := range rules {
		r := &t.indexes[d].rules[i]
		if tiers[r.tier].full() {
			continue
		}
		for _, span := range r.spans(destination, protocol) {
			tiers[r.tier].paint(span, answerOf(r.tier, r.number, r.Action))
		}
	}
	edges := []int{0}
	for i := range tiers {
		for _, s := range tiers[i].painted {
			edges = append(edges, int(s.first), int(s.last)+1)
		}
	}
	slices.Sort(edges)
	edges = slices.Compact(edges)
	var out []PortAnswer
	for i, first := range edges {
		last := 65535
		if i+1 < len(edges) {
			last = edges[i+1] - 1
		}
		var a Answer
		for t := range tiers {
			a |= tiers[t].at(first)
		}
		switch n := len(out); {
		case a == 0 || first > 65535:
		case n > 0 && out[n-1].Answer == a && int(out[n-1].Last)+1 == first:
			out[n-1].Last = uint16(last)
		default:
			out = append(out, PortAnswer{protocol, uint16(first), uint16(last), a})
		}
	}
	return out
}

// spans are the ranges of ports of a protocol that a rule means.
func (r *tableRule) spans(destination []model.PodPort, protocol uint8) (out []span) {
	if r.Ports == nil {
		return []span{{first: 0, last: 65535}}
	}
	for _, p := range r.Ports {
		switch {
		case p.Protocol != 0 && p.Protocol != protocol:
		case p.Name == "":
			out = append(out, span{first: p.First, last: p.Last})
		default:
			for _, named := range destination {
				if named.Name == p.Name && named.Protocol == protocol {
					out = append(out, span{first: named.Port, last: named.Port})
				}
			}
		}
	}
	return out
}

// blockProfiles gives the addresses of rules' blocks profiles.
func (t *Table) blockProfiles(d Direction, blocks map[int][]*Block) (out []BlockProfile) {
	type owned struct {
		rule int
		*Block
	}
	byPrefix := map[netip.Prefix][]owned{}
	for rule, list := range blocks {
		for _, b := range list {
			byPrefix[b.Prefix] = append(byPrefix[b.Prefix], owned{rule, b})
			for _, x := range b.Except {
				byPrefix[x] = append(byPrefix[x], []owned{}...)
			}
		}
	}
	for p := range byPrefix {
		var rules []int
		for bits := p.Bits(); bits >= 0; bits-- {
			above, _ := p.Addr().Prefix(bits)
			for _, b := range byPrefix[above] {
				if b.covers(p) {
					rules = append(rules, b.rule)
				}
			}
		}
		slices.Sort(rules)
		out = append(out, BlockProfile{mapped(p), t.profile(d, slices.Compact(rules), nil)})
	}
	if v4 := (Prefix{Addr: netip.AddrFrom4([4]byte{}).As16(), Bits: 96}); len(out) > 0 && !slices.ContainsFunc(out, func(b BlockProfile) bool { return b.Prefix == v4 }) {
		out = append(out, BlockProfile{v4, 0})
	}
	slices.SortFunc(out, func(a, b BlockProfile) int {
		return cmp.Or(slices.Compare(a.Prefix.Addr[:], b.Prefix.Addr[:]), cmp.Compare(a.Prefix.Bits, b.Prefix.Bits))
	})
	return out
}

// covers reports whether all of a prefix is meant, but for what is taken out of it.
func (b *Block) covers(p netip.Prefix) bool {
	within := func(x netip.Prefix) bool { return x.Bits() <= p.Bits() && x.Contains(p.Addr()) }
	return within(b.Prefix) && !slices.ContainsFunc(b.Except, within)
}

func mapped(p netip.Prefix) Prefix {
	bits := p.Bits()
	if p.Addr().Is4() {
		bits += 96
	}
	return Prefix{p.Addr().As16(), uint8(bits)}
}
