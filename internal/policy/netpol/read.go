// SPDX-License-Identifier: Apache-2.0

package netpol

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/vigie-io/vigie/internal/policy"
)

// reader collects what is wrong in one document.
type reader struct {
	source string
	line   int // of the document in its source, from 0
	errors policy.Errors
}

// maxErrors is how many errors are told: who makes more has one mistake often.
const maxErrors = 100

// value is a node and the field that it is; the zero value is a field that is not there. What is read of one that is not
// as it should be is nothing, and an error is told.
type value struct {
	r    *reader
	node *yaml.Node
	path string
}

func (v value) given() bool { return v.node != nil }

func (v value) wrong(format string, args ...any) {
	if len(v.r.errors) >= maxErrors {
		return
	}
	line, column := 1, 1
	if v.node != nil {
		line, column = max(v.node.Line, 1), max(v.node.Column, 1)
	}
	v.r.errors = append(v.r.errors, &policy.Error{Source: v.r.source, Line: v.r.line + line, Column: column, Field: v.path,
		Problem: fmt.Sprintf(format, args...)})
}

// get is a field; null is as good as none.
func (v value) get(name string) value {
	out := value{r: v.r, path: strings.TrimPrefix(v.path+"."+name, ".")}
	if v.node == nil || v.node.Kind != yaml.MappingNode {
		return out
	}
	for i := 0; i+1 < len(v.node.Content); i += 2 {
		if v.node.Content[i].Value == name {
			if n := resolve(v.node.Content[i+1]); n.Kind != yaml.ScalarNode || n.ShortTag() != "!!null" {
				out.node = n
			}
			break
		}
	}
	return out
}

func resolve(n *yaml.Node) *yaml.Node {
	for range 8 {
		if n.Kind != yaml.AliasNode {
			return n
		}
		n = n.Alias
	}
	return n
}

// only tells of every field that is not among the known ones. why says of some that are not carried why not.
func (v value) only(why map[string]string, known ...string) {
	if v.node == nil {
		return
	}
	if v.node.Kind != yaml.MappingNode {
		v.wrong("is not fields: write %s", strings.Join(known, ", "))
		return
	}
	for i := 0; i+1 < len(v.node.Content); i += 2 {
		name := v.node.Content[i].Value
		if slices.Contains(known, name) {
			continue
		}
		if f := v.get(name); f.given() {
			if reason := why[name]; reason != "" {
				f.wrong("%s", reason)
			} else {
				f.wrong("is no field that is known here: known are %s", strings.Join(known, ", "))
			}
		}
	}
}

// list are the items of a list; nil when there is none.
func (v value) list() []value {
	if v.node == nil {
		return nil
	}
	if v.node.Kind != yaml.SequenceNode {
		v.wrong("is not a list: begin each entry with '-'")
		return nil
	}
	out := make([]value, len(v.node.Content))
	for i, n := range v.node.Content {
		out[i] = value{r: v.r, node: resolve(n), path: v.path + "[" + strconv.Itoa(i) + "]"}
	}
	return out
}

func (v value) text() string {
	if v.node == nil {
		return ""
	}
	if v.node.Kind != yaml.ScalarNode {
		v.wrong("is not a text")
		return ""
	}
	return v.node.Value
}

func (v value) texts() (out []string) {
	for _, item := range v.list() {
		out = append(out, item.text())
	}
	return out
}

// number is a whole number; 0 when there is none.
func (v value) number(from, to int) int {
	if v.node == nil {
		return 0
	}
	n, err := strconv.Atoi(v.text())
	if err != nil || v.node.ShortTag() != "!!int" || n < from || n > to {
		v.wrong("is no number from %d to %d", from, to)
		return 0
	}
	return n
}

// oneOf is a text that is among some; empty when there is none.
func (v value) oneOf(words ...string) string {
	t := v.text()
	if v.node != nil && !slices.Contains(words, t) {
		v.wrong("%q is not known: write %s", t, strings.Join(words, ", "))
		return ""
	}
	return t
}

// labels are texts by name.
func (v value) labels() map[string]string {
	if v.node == nil {
		return nil
	}
	if v.node.Kind != yaml.MappingNode {
		v.wrong("is not texts by name: write {app: web}")
		return nil
	}
	out := make(map[string]string, len(v.node.Content)/2)
	for i := 0; i+1 < len(v.node.Content); i += 2 {
		name := v.node.Content[i].Value
		out[name] = v.get(name).text()
	}
	return out
}

// selector is a label selector as Kubernetes writes it.
func (v value) selector() LabelSelector {
	v.only(nil, "matchLabels", "matchExpressions")
	var out LabelSelector
	labels := v.get("matchLabels").labels()
	for _, key := range slices.Sorted(maps.Keys(labels)) {
		out = append(out, Requirement{Key: key, Op: In, Values: []string{labels[key]}})
	}
	for _, e := range v.get("matchExpressions").list() {
		e.only(nil, "key", "operator", "values")
		r := Requirement{Key: e.get("key").text(), Values: e.get("values").texts(),
			Op: Op(e.get("operator").oneOf(string(In), string(NotIn), string(Exists), string(DoesNotExist)))}
		switch {
		case r.Key == "":
			e.get("key").wrong("is missing: write the label's name")
		case !e.get("operator").given():
			e.get("operator").wrong("is missing: write In, NotIn, Exists or DoesNotExist")
		case (r.Op == In || r.Op == NotIn) && len(r.Values) == 0:
			e.get("values").wrong("is missing: %s needs at least one", r.Op)
		case (r.Op == Exists || r.Op == DoesNotExist) && len(r.Values) > 0:
			e.get("values").wrong("has no meaning beside %s: leave it out", r.Op)
		}
		slices.Sort(r.Values)
		out = append(out, r)
	}
	return out
}

// prefix is a CIDR; bare: an address alone is one, too.
func (v value) prefix(bare bool) netip.Prefix {
	p, err := netip.ParsePrefix(v.text())
	if addr, err2 := netip.ParseAddr(v.text()); bare && err2 == nil {
		p, err = netip.PrefixFrom(addr, addr.BitLen()), nil
	}
	if err != nil {
		v.wrong("%q is no CIDR: write 10.0.0.0/8 or 2001:db8::/32", v.text())
		return netip.Prefix{}
	}
	if p.Addr().Is4In6() {
		v.wrong("%q is an IPv4 address written as IPv6: write it as IPv4", v.text())
		return netip.Prefix{}
	}
	return p.Masked()
}

// block is a CIDR without some of its parts; nil when it is none.
func block(cidr value, except []value, bare bool) *Block {
	b := &Block{Prefix: cidr.prefix(bare)}
	if !b.Prefix.IsValid() {
		return nil
	}
	for _, e := range except {
		p := e.prefix(bare)
		if !p.IsValid() {
			continue
		}
		if p.Bits() < b.Prefix.Bits() || !b.Prefix.Contains(p.Addr()) {
			e.wrong("%s is not within %s: it takes nothing away", p, b.Prefix)
			continue
		}
		b.Except = append(b.Except, p)
	}
	return b
}
