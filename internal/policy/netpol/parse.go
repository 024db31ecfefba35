// SPDX-License-Identifier: Apache-2.0

package netpol

import (
	"errors"
	"io"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/vigie-io/vigie/internal/policy"
)

// Parse reads the network policies of a YAML stream, or of JSON. source is what errors call it. Either all of it is right,
// or nothing is returned but policy.Errors, which have the place and the field of everything that is wrong.
func Parse(source string, stream []byte) ([]*Policy, error) {
	decoder := yaml.NewDecoder(strings.NewReader(string(stream)))
	var out []*Policy
	var wrong policy.Errors
	for {
		var doc yaml.Node
		err := decoder.Decode(&doc)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, append(wrong, &policy.Error{Source: source, Line: 1, Column: 1, Problem: "is no YAML: " + strings.TrimPrefix(err.Error(), "yaml: ")})
		}
		if len(doc.Content) == 0 || doc.Content[0].ShortTag() == "!!null" {
			continue
		}
		p, err := ParseNode(source, 1, string(stream), doc.Content[0])
		var more policy.Errors
		if errors.As(err, &more) {
			wrong = append(wrong, more...)
			continue
		}
		out = append(out, p)
	}
	if len(wrong) > 0 {
		return nil, wrong
	}
	return out, nil
}

// ParseNode is Parse of one document that the YAML parser has read already: root is what is at its top, text what it was
// read from, line the place of that in the source, from 1.
func ParseNode(source string, line int, text string, root *yaml.Node) (*Policy, error) {
	r := &reader{source: source, line: line - 1}
	v := value{r: r, node: resolve(root)}
	p := &Policy{Source: text, Mode: policy.Enforce, Tier: Namespace}
	if p.Kind = Kind(v.get("kind").text()); !slices.Contains(Kinds(), p.Kind) {
		v.get("kind").wrong("%q is no network policy: known are %v", p.Kind, Kinds())
		return nil, r.errors
	}
	versions := apiVersions(p.Kind)
	if got := v.get("apiVersion"); !slices.Contains(versions, got.text()) {
		got.wrong("%q of %s is not read here: write %s", got.text(), p.Kind, strings.Join(versions, " or "))
		return nil, r.errors
	}
	v.only(nil, "apiVersion", "kind", "metadata", "spec", "specs", "status")
	p.metadata(v.get("metadata"))
	spec := v.get("spec")
	if !spec.given() && p.Kind != NetworkPolicy {
		spec.wrong("is missing: write what the policy says")
	}
	if specs := v.get("specs"); specs.given() {
		specs.wrong("is not read here: write a policy for each, with `spec`")
	}
	switch p.Kind {
	case NetworkPolicy:
		p.networkPolicy(spec)
	case ClusterNetworkPolicy:
		p.clusterNetworkPolicy(spec)
	default:
		p.cilium(spec)
	}
	if len(r.errors) > 0 {
		return nil, r.errors
	}
	return p, nil
}

func apiVersions(k Kind) []string {
	switch k {
	case NetworkPolicy:
		return []string{"networking.k8s.io/v1"}
	case ClusterNetworkPolicy:
		return []string{"policy.networking.k8s.io/v1alpha2"}
	}
	return []string{"cilium.io/v2"}
}

func (p *Policy) metadata(v value) {
	if p.Name = v.get("name").text(); p.Name == "" {
		v.get("name").wrong("is missing: write a name")
	}
	p.Namespace = v.get("namespace").text()
	if p.Namespace == "" && (p.Kind == NetworkPolicy || p.Kind == CiliumNetworkPolicy) {
		p.Namespace = "default"
	}
	if p.Kind == ClusterNetworkPolicy || p.Kind == CiliumClusterwideNetworkPolicy {
		p.Namespace = ""
	}
	if m := v.get("annotations").get(ModeAnnotation); m.given() {
		p.Mode = policy.Mode(m.oneOf(string(policy.Audit), string(policy.Enforce)))
	}
}

// WithMode is the same policy in another mode.
func (p *Policy) WithMode(m policy.Mode) *Policy {
	c := *p
	c.Mode = m
	return &c
}
