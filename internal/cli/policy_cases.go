// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/vigie-io/vigie/internal/agent"
	"github.com/vigie-io/vigie/internal/model"
	"github.com/vigie-io/vigie/internal/policy"
)

// policyTest is a document of kind PolicyTest: what policies must allow and deny. `vigie policy test --help` shows one.
type policyTest struct {
	name  string
	cases []policyCase
}

// policyCase is what one process may do, and may not.
type policyCase struct {
	name     string
	as       actor
	accesses []caseAccess
}

// actor is the process that tries.
type actor struct {
	unit, container, user, binary, parent string
	labels                                map[string]string
}

// caseAccess is one thing that it tries.
type caseAccess struct {
	at     string // FILE:LINE
	text   string
	denied bool // it must be
	access policy.Access
}

// parsePolicyTest reads a document. The error lists all problems, each with file, line and field.
func parsePolicyTest(d agent.Document) (*policyTest, error) {
	r := &caseReader{source: d.Source}
	var doc yaml.Node
	if err := yaml.Unmarshal(d.Padded(), &doc); err != nil {
		return nil, fmt.Errorf("%s:%d:1: not YAML: %w", d.Source, d.Line, err)
	}
	root := doc.Content[0] // agent.Documents has seen that it is a mapping
	fields := r.fields(root, "", "apiVersion", "kind", "metadata", "as", "cases")
	if v := fields["apiVersion"]; v == nil || v.Value != policy.APIVersion {
		r.bad(root, "apiVersion", "write "+policy.APIVersion)
	}
	t := &policyTest{name: d.Name}
	as := r.actor(fields["as"], "as", actor{})
	cases := fields["cases"]
	if cases == nil || cases.Kind != yaml.SequenceNode || len(cases.Content) == 0 {
		r.bad(root, "cases", "write a list of cases, each with allow or deny")
		return nil, r.err()
	}
	for i, n := range cases.Content {
		t.cases = append(t.cases, r.oneCase(n, fmt.Sprintf("cases[%d]", i), as))
	}
	return t, r.err()
}

// caseReader reads nodes and collects what is wrong.
type caseReader struct {
	source   string
	problems []error
}

func (r *caseReader) bad(n *yaml.Node, field, problem string) {
	r.problems = append(r.problems, fmt.Errorf("%s:%d:%d: %s: %s", r.source, n.Line, n.Column, field, problem))
}

func (r *caseReader) err() error { return errors.Join(r.problems...) }

// fields are the values of a mapping whose keys are known.
func (r *caseReader) fields(n *yaml.Node, path string, known ...string) map[string]*yaml.Node {
	values := make(map[string]*yaml.Node)
	if n.Kind != yaml.MappingNode {
		r.bad(n, path, "want a mapping with "+strings.Join(known, ", "))
		return values
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key := n.Content[i]
		switch {
		case !slices.Contains(known, key.Value):
			r.bad(key, below(path, key.Value), "there is no such field: known are "+strings.Join(known, ", "))
		case values[key.Value] != nil:
			r.bad(key, below(path, key.Value), "is there twice")
		default:
			values[key.Value] = n.Content[i+1]
		}
	}
	return values
}

func below(path, field string) string {
	if path == "" {
		return field
	}
	return path + "." + field
}

// actor reads `as`; what it does not say is as before.
func (r *caseReader) actor(n *yaml.Node, path string, before actor) actor {
	if n == nil {
		return before
	}
	a := before
	texts := map[string]*string{"unit": &a.unit, "container": &a.container, "user": &a.user, "binary": &a.binary, "parent": &a.parent}
	for name, v := range r.fields(n, path, "unit", "container", "labels", "user", "binary", "parent") {
		switch {
		case name == "labels":
			a.labels = make(map[string]string)
			if err := v.Decode(&a.labels); err != nil {
				r.bad(v, below(path, name), "want a mapping of texts")
			}
		case v.Kind != yaml.ScalarNode:
			r.bad(v, below(path, name), "want a text")
		case (name == "binary" || name == "parent") && !strings.HasPrefix(v.Value, "/"):
			r.bad(v, below(path, name), fmt.Sprintf("%q is no absolute path", v.Value))
		default:
			*texts[name] = v.Value
		}
	}
	return a
}

func (r *caseReader) oneCase(n *yaml.Node, path string, as actor) policyCase {
	c := policyCase{name: path}
	fields := r.fields(n, path, "name", "as", "allow", "deny")
	if v := fields["name"]; v != nil {
		c.name = v.Value
	}
	c.as = r.actor(fields["as"], path+".as", as)
	for _, list := range []string{"allow", "deny"} {
		v := fields[list]
		if v == nil {
			continue
		}
		if v.Kind != yaml.SequenceNode {
			r.bad(v, below(path, list), "want a list")
			continue
		}
		for i, item := range v.Content {
			access, err := parseAccess(item.Value)
			if item.Kind != yaml.ScalarNode {
				err = errors.New("want a text, like \"read /etc/passwd\"")
			}
			if err != nil {
				r.bad(item, fmt.Sprintf("%s.%s[%d]", path, list, i), err.Error())
			}
			c.accesses = append(c.accesses, caseAccess{at: fmt.Sprintf("%s:%d", r.source, item.Line), text: item.Value, denied: list == "deny", access: access})
		}
	}
	if fields["allow"] == nil && fields["deny"] == nil {
		r.bad(n, path, "tries nothing: write allow or deny")
	}
	return c
}

// parseAccess reads an access in the words of policies: "read /etc/passwd", "connect db.example.org:5432/tcp", "connect
// db.example.org=192.0.2.1:5432", "listen 443/tcp", "capability CAP_NET_RAW", "mount".
func parseAccess(text string) (policy.Access, error) {
	word, object, _ := strings.Cut(strings.TrimSpace(text), " ")
	object = strings.TrimSpace(object)
	a := policy.Access{Operation: model.Operation(word)}
	var err error
	switch a.Operation {
	case model.OpExec, model.OpRead, model.OpWrite, model.OpModify:
		if a.Path = object; !strings.HasPrefix(object, "/") {
			err = fmt.Errorf("write an absolute path behind %s", word)
		}
	case model.OpConnect, model.OpSend, model.OpReceive, model.OpAccept:
		err = parseRemote(object, &a)
	case model.OpBind, model.OpListen:
		err = parseLocal(object, &a)
	case model.OpCapability:
		a.Capability, err = parseCapability(object)
	case model.OpSocket, model.OpPtrace, model.OpBPF, model.OpMount, model.OpModule:
		if object != "" {
			err = fmt.Errorf("%s stands alone", word)
		}
	default:
		var words []string
		for _, o := range model.Operations() {
			words = append(words, string(o))
		}
		err = fmt.Errorf("begin with one of %s", strings.Join(words, ", "))
	}
	if err != nil {
		return a, fmt.Errorf("%q: %w", text, err)
	}
	return a, nil
}

func parseCapability(name string) (model.Cap, error) {
	name = strings.ToUpper(name)
	if !strings.HasPrefix(name, "CAP_") {
		name = "CAP_" + name
	}
	for c := range model.Cap(64) {
		if c.String() == name {
			return c, nil
		}
	}
	return 0, errors.New("there is no such capability: write it as CAP_NET_RAW")
}

// Protocol numbers (IANA).
const (
	protocolTCP  = 6
	protocolUDP  = 17
	protocolSCTP = 132
)

// parseProtocol takes a protocol off the end of a text; what is sent is UDP unless it says another, all else TCP.
func parseProtocol(text string, a *policy.Access) (string, error) {
	rest, name, ok := strings.Cut(text, "/")
	switch {
	case name == "udp", !ok && a.Operation == model.OpSend:
		a.Protocol = protocolUDP
	case name == "tcp", !ok:
		a.Protocol = protocolTCP
	case name == "sctp":
		a.Protocol = protocolSCTP
	default:
		return "", fmt.Errorf("protocol %q: write tcp, udp or sctp", name)
	}
	return rest, nil
}

// parseRemote reads ADDRESS:PORT, NAME:PORT or NAME=ADDRESS:PORT, with the protocol behind it.
func parseRemote(text string, a *policy.Access) error {
	text, err := parseProtocol(text, a)
	if err != nil {
		return err
	}
	if name, address, ok := strings.Cut(text, "="); ok {
		a.Names, text = []string{strings.ToLower(name)}, address
	}
	if at, err := netip.ParseAddrPort(text); err == nil {
		a.Address, a.Port = at.Addr(), at.Port()
		return nil
	}
	name, digits, ok := strings.Cut(text, ":")
	port, err := strconv.ParseUint(digits, 10, 16)
	if !ok || err != nil || name == "" || a.Names != nil {
		return errors.New("want ADDRESS:PORT, NAME:PORT or NAME=ADDRESS:PORT, and /udp where it is not TCP")
	}
	a.Names, a.Port = []string{strings.ToLower(name)}, uint16(port)
	return nil
}

// parseLocal reads PORT or ADDRESS:PORT, with the protocol behind it.
func parseLocal(text string, a *policy.Access) error {
	text, err := parseProtocol(text, a)
	if err != nil {
		return err
	}
	if port, err := strconv.ParseUint(text, 10, 16); err == nil {
		a.Address, a.Port = netip.IPv4Unspecified(), uint16(port)
		return nil
	}
	at, err := netip.ParseAddrPort(text)
	if err != nil {
		return errors.New("want PORT or ADDRESS:PORT, and /udp where it is not TCP")
	}
	a.Address, a.Port = at.Addr(), at.Port()
	return nil
}
