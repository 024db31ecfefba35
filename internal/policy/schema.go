// SPDX-License-Identifier: Apache-2.0

package policy

// schema is the one description of what a WorkloadPolicy looks like: the parser checks a document against it, and
// the JSON Schema is made from it.
type schema struct {
	kind kind
	doc  string

	fields []field // object
	short  string  // object: the field that a bare text stands for

	items *schema // list
	one   bool    // list: one item can stand for a list of it

	values  []string            // text: one of
	number  bool                // text: may be written as a number
	pattern string              // text: for the JSON Schema; check decides
	check   func(string) string // text: says what is wrong
	// whole checks an object's fields against each other.
	whole func(v *value) (fieldName, problem string)
}

type kind uint8

const (
	kindObject kind = iota
	kindList
	kindText
	kindLabels // texts by name
)

func (k kind) String() string {
	return [...]string{"fields", "a list", "a text", "texts by name"}[k]
}

type field struct {
	name     string
	required bool
	*schema
}

// field finds a field by its name, or nil.
func (s *schema) field(name string) *field {
	for i := range s.fields {
		if s.fields[i].name == name {
			return &s.fields[i]
		}
	}
	return nil
}

func (s *schema) names() []string {
	names := make([]string, len(s.fields))
	for i, f := range s.fields {
		names[i] = f.name
	}
	return names
}

// APIVersion and Kind are what a document of this kind says it is.
const (
	APIVersion = "vigie.io/v1alpha1"
	Kind       = "WorkloadPolicy"
)

func text(doc string, check func(string) string) *schema {
	return &schema{kind: kindText, doc: doc, check: check}
}

func enum(doc string, values ...string) *schema {
	return &schema{kind: kindText, doc: doc, values: values}
}

func list(doc string, items *schema) *schema {
	return &schema{kind: kindList, doc: doc, items: items}
}

func oneOrMore(doc string, items *schema) *schema {
	return &schema{kind: kindList, doc: doc, items: items, one: true}
}

func object(doc string, fields ...field) *schema {
	return &schema{kind: kindObject, doc: doc, fields: fields}
}

// policySchema is the whole kind.
func policySchema() *schema {
	return object("What a workload may do.",
		field{"apiVersion", true, enum("The version of the kind.", APIVersion)},
		field{"kind", true, enum("The kind.", Kind)},
		field{"metadata", true, object("What the policy is called.",
			field{"name", true, &schema{kind: kindText, doc: "Names the policy; one of a name is in force.", check: badName, pattern: nameSyntax}},
			field{"labels", false, &schema{kind: kindLabels, doc: "For people and tools; they select nothing."}},
			field{"annotations", false, &schema{kind: kindLabels, doc: "For people and tools; they select nothing."}},
		)},
		field{"spec", true, specSchema()},
	)
}

func specSchema() *schema {
	s := object("What is allowed and denied, to whom.",
		field{"selector", true, selectorSchema("The processes that the policy is about. All that is named must hold; {} is every process of the host.", true)},
		field{"mode", false, enum("audit reports what would be denied, enforce denies it. audit when not given.", string(Audit), string(Enforce))},
		field{"processes", false, section("What may be executed.", pathRule("What may be executed: a path glob.", false))},
		field{"files", false, section("Which files may be used, and how.", pathRule("Which file: a path glob.", true))},
		field{"network", false, networkSchema()},
		field{"capabilities", false, section("Which capabilities may be used.", capabilityRule())},
		field{"operations", false, notEmpty(object("Privileged operations that are denied.", field{"deny", false, list("Rules that deny.", operationRule())},
			field{"weaker", false, weaker("Whether all rules of the section may be carried by less than they ask for.")}))},
		field{"onDenied", false, enum("What is done in mode enforce: the call fails, or the process is killed. deny when not given.", string(Deny), string(Kill))},
		field{"weaker", false, weaker("Whether a rule may be carried by less than it asks for. refuse when not given.")},
		field{"onAgentExit", false, enum("What becomes of the policy when the agent is gone: release takes it out of force, keep leaves in force what the kernel carries alone. release when not given.", string(Release), string(Keep))},
		field{"onTimeout", false, enum("The answer when the agent is asked and does not answer in time. allow when not given.", string(TimeoutAllow), string(TimeoutDeny))},
	)
	s.whole = func(v *value) (string, string) {
		for _, name := range []string{"processes", "files", "network", "capabilities", "operations"} {
			if v.has(name) {
				return "", ""
			}
		}
		return "", "says nothing: write at least one of processes, files, network, capabilities, operations"
	}
	return s
}

func selectorSchema(doc string, processes bool) *schema {
	s := object(doc,
		field{"matchLabels", false, &schema{kind: kindLabels, doc: "Labels of the container or pod."}},
		field{"unit", false, text("The systemd unit; '*' and '?' are wildcards.", badPattern)},
		field{"container", false, text("The container's name; '*' and '?' are wildcards.", badPattern)},
	)
	if processes {
		s.fields = append(s.fields,
			field{"user", false, &schema{kind: kindText, doc: "Login name or uid of the process's real user. What it starts stays selected.", check: badUser, number: true, pattern: userSyntax}},
			field{"binary", false, text("A path glob of the program. What it starts stays selected.", badPath)},
		)
	} else {
		s.whole = func(v *value) (string, string) {
			if len(v.fields) == 0 {
				return "", "is empty: name matchLabels, unit or container"
			}
			return "", ""
		}
	}
	return s
}

// section is a pair of lists.
func section(doc string, rule *schema) *schema {
	return notEmpty(object(doc,
		field{"allow", false, list("Rules that allow. With this list everything that it does not name is denied.", rule)},
		field{"deny", false, list("Rules that deny; they go before those that allow.", rule)},
		field{"weaker", false, weaker("Whether all rules of the section, and what its allow list denies, may be carried by less than they ask for.")},
	))
}

func notEmpty(s *schema) *schema {
	s.whole = func(v *value) (string, string) {
		for name := range v.fields {
			if name != "weaker" {
				return "", ""
			}
		}
		return "", "is empty: leave it out, or write one of " + joinOr(s.names()) + "; an allow list of [] allows nothing"
	}
	return s
}

// actors are the fields of every rule.
func actors() []field {
	return []field{
		{"by", false, oneOrMore("Only when the process runs one of these binaries: path globs.", text("A path glob.", badPath))},
		{"parent", false, oneOrMore("Only when the process's parent runs one of these binaries: path globs.", text("A path glob.", badPath))},
		{"weaker", false, weaker("Whether this rule may be carried by less than it asks for.")},
	}
}

func weaker(doc string) *schema { return enum(doc, "refuse", "accept") }

func pathRule(doc string, access bool) *schema {
	s := object("A rule.", field{"path", true, text(doc, badPath)})
	if access {
		s.fields = append(s.fields, field{"access", false, oneOrMore("How it is used. All when not given.",
			enum("read: open for reading; write: open for writing or create; modify: rename, remove, link, chmod and their like.", "read", "write", "modify", "all"))})
	}
	s.fields, s.short = append(s.fields, actors()...), "path"
	return s
}

func capabilityRule() *schema {
	s := object("A rule.", field{"caps", true, oneOrMore("The capabilities.", text("A capability: CAP_NET_ADMIN.", badCapability))})
	s.fields, s.short = append(s.fields, actors()...), "caps"
	return s
}

func operationRule() *schema {
	s := object("A rule.", field{"ops", true, oneOrMore("The operations.", enum("A privileged operation.", operationNames()...))})
	s.fields, s.short = append(s.fields, actors()...), "ops"
	return s
}

// operationNames are the privileged operations, in the order of Table.Privileges.
func operationNames() []string { return []string{"ptrace", "bpf", "mount", "module"} }

func networkSchema() *schema {
	ends := []field{
		{"cidr", false, oneOrMore("Addresses: CIDRs, or single ones.", text("10.0.0.0/8, 2001:db8::/32 or an address.", badCIDR))},
		{"cidrs", false, list("The same as cidr.", text("10.0.0.0/8, 2001:db8::/32 or an address.", badCIDR))},
		{"except", false, oneOrMore("Addresses below the CIDRs that are not meant.", text("10.0.0.0/8, 2001:db8::/32 or an address.", badCIDR))},
	}
	named := []field{
		{"fqdn", false, oneOrMore("DNS names by which the workload asked for the address. *.example.org is one label, **.example.org one or more.", text("A DNS name, lower case.", badFQDN))},
		{"workload", false, selectorSchema("The workload that listens there, on this host.", false)},
	}
	direction := func(doc, end, endDoc string, fields []field) *schema {
		to := object(endDoc, fields...)
		to.whole = wholeEnd
		rule := object("A rule. What it does not name is any.", field{end, false, to},
			field{"ports", false, oneOrMore("Ports with protocol.", &schema{kind: kindText, doc: "443/tcp, 8000-8100/udp, 53 for all protocols with ports, */tcp, icmp.", check: badPorts, number: true, pattern: portSyntax})})
		rule.fields = append(rule.fields, actors()...)
		rule.whole = func(v *value) (string, string) {
			if !v.has(end) && !v.has("ports") && !v.has("by") && !v.has("parent") {
				return "", "names nothing: write " + end + `, ports, by or parent; ports: "*" is everything`
			}
			return "", ""
		}
		return section(doc, rule)
	}
	return notEmpty(object("Who may be talked to.",
		field{"egress", false, direction("Connecting and sending.", "to", "The remote end.", append(ends[:len(ends):len(ends)], named...))},
		field{"ingress", false, direction("Conversations that come in; ports are the local ones.", "from", "The remote end.", ends)},
		field{"listen", false, direction("Ports that are bound.", "on", "The local address.", ends)},
	))
}

// wholeEnd holds that an end is named in one way: addresses, names and workloads are found out differently, and
// no rule can ask for two of them.
func wholeEnd(v *value) (string, string) {
	var ways []string
	if v.has("cidr") || v.has("cidrs") {
		ways = append(ways, "cidr")
	}
	for _, way := range []string{"fqdn", "workload"} {
		if v.has(way) {
			ways = append(ways, way)
		}
	}
	switch {
	case len(ways) > 1:
		return ways[1], "stands beside " + ways[0] + ": write a rule of its own for it"
	case v.has("except") && (len(ways) == 0 || ways[0] != "cidr"):
		return "except", "has no cidr to be taken from: write cidr beside it"
	case len(ways) == 0:
		return "", "is empty: write cidr, or leave it out for all addresses"
	}
	for _, e := range v.texts("except") {
		inner, err := parseCIDR(e)
		if err != nil {
			return "", "" // told already
		}
		if !within(inner, append(v.texts("cidr"), v.texts("cidrs")...)) {
			return "except", e + " is in none of the CIDRs: it takes nothing away, remove it"
		}
	}
	return "", ""
}
