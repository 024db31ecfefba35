// SPDX-License-Identifier: Apache-2.0

// Package policy is what policies mean: parse, compile, evaluate, simulate, learn, explain. In: YAML, events. Out:
// tables for the kernel (Table), judgements, reports, YAML. All of it is pure: it reads no file and asks no kernel.
package policy

// Policy is one WorkloadPolicy (vigie.io/v1alpha1), checked. It is immutable.
type Policy struct {
	Name     string
	Labels   map[string]string
	Selector Selector
	Mode     Mode
	Source   string // YAML document it was parsed from

	Processes    *ProcessRules
	Files        *FileRules
	Network      *NetworkRules
	Capabilities *CapabilityRules
	// Operations are denied: ptrace, bpf, mount, module.
	Operations *OperationRules

	OnDenied OnDenied
	// Weaker: every rule may be carried by less than it asks for; a rule can say so for itself.
	Weaker bool
	// OnAgentExit says whether what the kernel carries stays in force when the agent is gone.
	OnAgentExit OnAgentExit
	// OnTimeout is the answer where a back-end outside the kernel (fanotify) does not answer in time.
	OnTimeout OnTimeout
}

// Mode says whether a policy acts.
type Mode string

// The modes.
const (
	Audit   Mode = "audit"
	Enforce Mode = "enforce"
)

// OnDenied is what is done about what is not allowed.
type OnDenied string

// What can be done.
const (
	Deny OnDenied = "deny"
	Kill OnDenied = "kill"
)

// OnAgentExit is what becomes of a policy when the agent ends, however it ends.
type OnAgentExit string

// Release takes it out of force; Keep leaves what lives in the kernel there (pinned links) until an agent comes.
const (
	Release OnAgentExit = "release"
	Keep    OnAgentExit = "keep"
)

// OnTimeout is an answer in the place of one that did not come.
type OnTimeout string

// The answers.
const (
	TimeoutAllow OnTimeout = "allow"
	TimeoutDeny  OnTimeout = "deny"
)

// Selector says to which processes a policy applies: all that it names must hold; an empty one selects every process.
// A process that was selected by user or binary stays so for as long as it lives, with all that it starts.
type Selector struct {
	// Namespace is of Kubernetes: pods of it alone. No document says it; a policy that lives in a namespace does.
	Namespace   string
	MatchLabels map[string]string // labels of the container or pod
	Unit        string            // systemd unit, '*' and '?' are wildcards
	Container   string            // container's name, '*' and '?' are wildcards
	User        string            // login name or uid of the process's real user
	Binary      string            // path, with '*', '?' and '**'
}

// ProcessRules say what may be executed. An allow list makes everything else denied.
type ProcessRules struct {
	Allow, Deny []ProcessRule
	HasAllow    bool // the list is there, be it empty
	Weaker      bool // for all rules of the section, and for what its allow list denies
}

// ProcessRule is about executing files. By and Parent are path globs of the binary that calls exec and of its parent's; none: any.
type ProcessRule struct {
	Path       string
	By, Parent []string
	Weaker     bool
}

// FileRules say which files may be used, and how.
type FileRules struct {
	Allow, Deny []FileRule
	HasAllow    bool
	Weaker      bool
}

// FileRule is about using files.
type FileRule struct {
	Path       string
	Access     []FileOp // Read, Write, Modify; all when the policy says none
	By, Parent []string
	Weaker     bool
}

// NetworkRules say who may be talked to.
type NetworkRules struct {
	// Egress are connect and send, Ingress what comes in, Listen ports that are bound.
	Egress, Ingress, Listen *DirectionRules
}

// DirectionRules are the rules of one direction.
type DirectionRules struct {
	Allow, Deny []NetworkRule
	HasAllow    bool
	Weaker      bool
}

// NetworkRule is about conversations. All that it names must hold; what it does not name is any.
type NetworkRule struct {
	CIDRs      []Prefixed
	FQDNs      []string // with '*': within one label at the beginning, "**." any number of labels
	Workload   *Selector
	Ports      []PortRange
	By, Parent []string
	Weaker     bool
}

// Prefixed is a CIDR without some of its parts. IPv4 as it was written.
type Prefixed struct {
	CIDR   string
	Except []string
}

// PortRange is ports of a protocol.
type PortRange struct {
	First, Last uint16 // 0 and 65535 for all
	Protocol    uint8  // IPPROTO_*; 0: any
}

// CapabilityRules say which capabilities may be used.
type CapabilityRules struct {
	Allow, Deny []CapabilityRule
	HasAllow    bool
	Weaker      bool
}

// CapabilityRule is about using capabilities.
type CapabilityRule struct {
	Caps       []uint8 // numbers
	By, Parent []string
	Weaker     bool
}

// OperationRules say which privileged operations are denied.
type OperationRules struct {
	Deny   []OperationRule
	Weaker bool
}

// OperationRule is about privileged operations.
type OperationRule struct {
	Operations []string // ptrace, bpf, mount, module
	By, Parent []string
	Weaker     bool
}
