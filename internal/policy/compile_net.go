// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"
)

// network makes Prefixes, Names, Peers, Ports, Default and Sockets.
func (c *compiler) network() error {
	n := &netCompiler{compiler: c, lists: map[string][]portRange{}}
	for d := Egress; d < Directions; d++ {
		if c.policy.direction(d) != nil {
			if err := n.direction(d); err != nil {
				return fmt.Errorf("network.%s: %w", d, err)
			}
		}
	}
	return nil
}

type netCompiler struct {
	*compiler
	any   []int                  // rules of the direction that name no address
	lists map[string][]portRange // ports that a list of rules makes
}

// portRange is what is decided about ports first to last.
type portRange struct {
	first, last uint16
	decision    Decision
}

func (n *netCompiler) direction(d Direction) error {
	var entries []cidrEntry
	var fqdn, workload []int
	n.any = nil
	for i := range n.rules {
		r := &n.rules[i]
		switch {
		case r.list == allowOf(d) && r.rest():
			n.table.Default[d] = n.decision(i)
			if d == Egress {
				n.table.Sockets = n.decision(i)
			}
		case r.list == egressDeny && r.rest() && d == Egress:
			n.table.Sockets = n.decision(i)
		case r.network == nil || r.dir != d:
		case len(r.network.CIDRs) > 0:
			var err error
			if entries, err = appendEntries(entries, i, r.network.CIDRs); err != nil {
				return err
			}
		case len(r.network.FQDNs) > 0:
			fqdn = append(fqdn, i)
		case r.network.Workload != nil:
			workload = append(workload, i)
		default:
			n.any = append(n.any, i)
		}
	}
	if err := n.ports(d, 0, n.any); err != nil {
		return err
	}
	for _, step := range []func() error{
		func() error { return n.prefixes(d, entries) },
		func() error { return n.names(d, fqdn) },
		func() error { return n.peers(d, workload) },
	} {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

// cidrEntry is a CIDR of a rule or one that is excepted from it. unit numbers the CIDRs with their exceptions.
type cidrEntry struct {
	prefix netip.Prefix
	unit   int32
	rule   int
	except bool
}

func appendEntries(to []cidrEntry, rule int, cidrs []Prefixed) ([]cidrEntry, error) {
	unit := int32(0)
	if len(to) > 0 {
		unit = to[len(to)-1].unit + 1
	}
	for _, c := range cidrs {
		for i, text := range append([]string{c.CIDR}, c.Except...) {
			p, err := parseCIDR(text)
			if err != nil {
				return nil, err
			}
			to = append(to, cidrEntry{prefix: p, unit: unit, rule: rule, except: i > 0})
		}
		unit++
	}
	return to, nil
}

// prefixes gives each prefix the class of the rules that hold below it: prefixes lie in each other or apart, so that in
// their order the ones around a prefix are a stack.
func (n *netCompiler) prefixes(d Direction, entries []cidrEntry) error {
	ruleOf := map[int32]int{}
	for _, e := range entries {
		ruleOf[e.unit] = e.rule
	}
	slices.SortStableFunc(entries, func(a, b cidrEntry) int {
		return cmp.Or(a.prefix.Addr().Compare(b.prefix.Addr()), cmp.Compare(a.prefix.Bits(), b.prefix.Bits()))
	})
	type around struct {
		prefix netip.Prefix
		units  []int32
	}
	var stack []around
	classes := map[string]uint16{"": 0}
	size, mapped, mappedRoot := 0, false, false
	for i := 0; i < len(entries); {
		p := entries[i].prefix
		for len(stack) > 0 && (stack[len(stack)-1].prefix.Bits() > p.Bits() || !stack[len(stack)-1].prefix.Contains(p.Addr())) {
			stack = stack[:len(stack)-1]
		}
		var units, without []int32
		if len(stack) > 0 {
			units = slices.Clone(stack[len(stack)-1].units)
		}
		for ; i < len(entries) && entries[i].prefix == p; i++ {
			if entries[i].except {
				without = append(without, entries[i].unit)
			} else {
				units = append(units, entries[i].unit)
			}
		}
		units = slices.DeleteFunc(units, func(u int32) bool { return slices.Contains(without, u) })
		if size += len(units); size > maxSetSizes {
			return fmt.Errorf("its CIDRs lie in each other too often: split the policy")
		}
		stack = append(stack, around{p, units})
		class, err := n.class(d, units, ruleOf, classes)
		if err != nil {
			return err
		}
		if p.Addr().Is4() {
			mappedRoot = mappedRoot || p.Bits() == 0
			p = netip.PrefixFrom(netip.AddrFrom16(p.Addr().As16()), p.Bits()+96)
		} else {
			mapped = mapped || p.Contains(mappedPrefix().Addr())
		}
		n.table.Prefixes = append(n.table.Prefixes, Prefix{d, p, class})
	}
	if mapped && !mappedRoot {
		n.table.Prefixes = append(n.table.Prefixes, Prefix{d, mappedPrefix(), 0})
	}
	if len(n.table.Prefixes) > MaxPrefixes {
		return fmt.Errorf("has %d CIDRs, at most %d are possible: split the policy", len(n.table.Prefixes), MaxPrefixes)
	}
	return nil
}

// mappedPrefix is where IPv4 addresses are in IPv6 (RFC 4291, section 2.5.5.2).
func mappedPrefix() netip.Prefix {
	return netip.PrefixFrom(netip.AddrFrom16([16]byte{10: 0xff, 11: 0xff}), 96)
}

// class is the class of addresses that a set of units holds.
func (n *netCompiler) class(d Direction, units []int32, ruleOf map[int32]int, classes map[string]uint16) (uint16, error) {
	rules := make([]int, 0, len(units)+len(n.any))
	for _, u := range units {
		rules = append(rules, ruleOf[u])
	}
	slices.Sort(rules)
	rules = slices.Compact(rules)
	k := rulesKey(rules)
	if class, ok := classes[k]; ok {
		return class, nil
	}
	if len(classes) > MaxClass {
		return 0, fmt.Errorf("tells more than %d kinds of addresses apart: split the policy", MaxClass)
	}
	class := uint16(len(classes))
	classes[k] = class
	rules = append(rules, n.any...)
	slices.Sort(rules)
	return class, n.ports(d, class, rules)
}

func rulesKey(rules []int) string {
	k := make([]byte, 0, 2*len(rules))
	for _, r := range rules {
		k = binary.LittleEndian.AppendUint16(k, uint16(r))
	}
	return string(k)
}

// names compiles the DNS names that rules have.
func (n *netCompiler) names(d Direction, rules []int) error {
	if len(rules) == 0 {
		return nil
	}
	var globs []glob
	var ruleOf []int
	for _, i := range rules {
		for _, name := range n.rules[i].network.FQDNs {
			globs, ruleOf = append(globs, parseNameGlob(name)), append(ruleOf, i)
		}
	}
	a, err := compileAutomaton(globs)
	if err != nil {
		return fmt.Errorf("its DNS names are %w: write fewer wildcards", err)
	}
	class := make([]uint16, len(a.sets))
	known := map[string]uint16{"": 0}
	for i, set := range a.sets {
		var holding []int
		for _, p := range set {
			holding = append(holding, ruleOf[p])
		}
		slices.Sort(holding)
		holding = slices.Compact(holding)
		k := rulesKey(holding)
		if _, ok := known[k]; !ok {
			if len(known) > MaxClass {
				return fmt.Errorf("tells more than %d kinds of DNS names apart: split the policy", MaxClass)
			}
			known[k] = uint16(len(known))
			if err := n.ports(d, known[k]|NameClass, holding); err != nil {
				return err
			}
		}
		class[i] = known[k]
	}
	if n.table.Names, err = a.matcher(class, len(known)); err != nil {
		return fmt.Errorf("its DNS names are %w: split the policy", err)
	}
	return nil
}

// peers numbers the workloads that rules have.
func (n *netCompiler) peers(d Direction, rules []int) error {
	var texts []string
	byPeer := map[string][]int{}
	for _, i := range rules {
		text := n.rules[i].network.Workload.String()
		if byPeer[text] == nil {
			texts = append(texts, text)
			n.table.Peers = append(n.table.Peers, Peer{*n.rules[i].network.Workload})
		}
		byPeer[text] = append(byPeer[text], i)
	}
	if len(texts) >= MaxClass {
		return fmt.Errorf("names more than %d workloads: split the policy", MaxClass)
	}
	for i, text := range texts {
		if err := n.ports(d, uint16(i+1)|PeerClass, byPeer[text]); err != nil {
			return err
		}
	}
	return nil
}

// ports adds what rules, in their order, decide about the ports of a class.
func (n *netCompiler) ports(d Direction, class uint16, rules []int) error {
	if len(rules) == 0 {
		return nil
	}
	for s := range int(n.table.Subjects) {
		holding := make([]int, 0, len(rules))
		for _, i := range rules {
			if n.holdsFor(i, s) {
				holding = append(holding, i)
			}
		}
		if len(holding) == 0 {
			continue
		}
		for _, protocol := range [...]uint8{tcp, udp, icmp, sctp, OtherProtocol} {
			for _, r := range n.rangesOf(holding, protocol) {
				n.table.Ports = appendPorts(n.table.Ports, Port{Direction: d, Class: class, Subject: uint16(s), Protocol: protocol}, r)
			}
			if len(n.table.Ports) > MaxPorts {
				return fmt.Errorf("its addresses, ports and subjects multiply to more than %d entries: name fewer binaries in `by`, ranges that begin and end at powers of two, or split the policy", MaxPorts)
			}
		}
	}
	return nil
}

// rangesOf is ranges, worked out once for rules that are in many classes.
func (n *netCompiler) rangesOf(rules []int, protocol uint8) []portRange {
	if first := rules[0]; len(n.rules[first].network.Ports) == 0 {
		return []portRange{{0, 65535, n.decision(first)}} // it holds for all ports, and no other is asked
	}
	k := rulesKey(rules) + string(rune(protocol))
	ranges, ok := n.lists[k]
	if !ok {
		ranges = n.ranges(rules, protocol)
		n.lists[k] = ranges
	}
	return ranges
}

// ranges cuts the ports where a rule begins or ends; in each piece the first rule decides.
func (n *netCompiler) ranges(rules []int, protocol uint8) []portRange {
	covers := func(p PortRange) (first, end int, ok bool) {
		if p.Protocol != 0 && p.Protocol != protocol {
			return 0, 0, false
		}
		if !hasPorts(protocol) {
			return 0, 1 << 16, p.First == 0 && p.Last == 65535
		}
		return int(p.First), int(p.Last) + 1, true
	}
	all := []PortRange{{Last: 65535}}
	portsOf := func(rule int) []PortRange {
		if ports := n.rules[rule].network.Ports; len(ports) > 0 {
			return ports
		}
		return all
	}
	cuts := []int{0, 1 << 16}
	for _, i := range rules {
		for _, p := range portsOf(i) {
			if first, end, ok := covers(p); ok {
				cuts = append(cuts, first, end)
			}
		}
	}
	slices.Sort(cuts)
	cuts = slices.Compact(cuts)
	// next[i] is the first piece from i on that no rule has decided.
	decided, next := make([]Decision, len(cuts)), make([]int, len(cuts)+1)
	for i := range next {
		next[i] = i
	}
	find := func(i int) int {
		for next[i] != i {
			next[i] = next[next[i]]
			i = next[i]
		}
		return i
	}
	for _, rule := range rules {
		for _, p := range portsOf(rule) {
			first, end, ok := covers(p)
			if !ok {
				continue
			}
			from, _ := slices.BinarySearch(cuts, first)
			for i := find(from); cuts[i] < end; i = find(i) {
				decided[i] = n.decision(rule)
				next[i] = i + 1
			}
		}
	}
	var out []portRange
	for i := 0; i+1 < len(cuts); i++ {
		if decided[i] == 0 {
			continue
		}
		if last := len(out) - 1; last >= 0 && out[last].decision == decided[i] && int(out[last].last)+1 == cuts[i] {
			out[last].last = uint16(cuts[i+1] - 1)
			continue
		}
		out = append(out, portRange{uint16(cuts[i]), uint16(cuts[i+1] - 1), decided[i]})
	}
	return out
}

// appendPorts cuts a range into ranges whose ports share their first bits.
func appendPorts(to []Port, port Port, r portRange) []Port {
	port.Decision = r.decision
	for at, end := uint32(r.first), uint32(r.last)+1; at < end; {
		bits := uint8(16)
		for size := uint32(2); size <= 1<<16 && at%size == 0 && at+size <= end; size *= 2 {
			bits--
		}
		port.Port, port.Bits = uint16(at), bits
		to = append(to, port)
		at += 1 << (16 - bits)
	}
	return to
}
