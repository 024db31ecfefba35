// SPDX-License-Identifier: Apache-2.0

// Package netpol is what network policies of whole pods mean: Kubernetes' NetworkPolicy, ClusterNetworkPolicy, and a
// subset of Cilium's. In: their YAML or JSON, and what is known of the cluster. Out: one model of all kinds (Policy), what
// it says of a conversation (Cluster.Verdict, readable and slow), and the same as look-ups for the kernel (Compile).
// All of it is pure.
//
// Who is judged by what: each pod is judged by the policies that select it, in each direction by itself. In this order,
// the first that decides, decides:
//
//	Admin      ClusterNetworkPolicies by priority, and their rules by their order: Allow and Deny are final, Pass goes on
//	           to the next tier
//	Namespace  NetworkPolicies and Cilium's: a rule that denies goes before those that allow; a pod that a policy isolates
//	           is denied what no rule allows
//	Baseline   as Admin
//
// and what nothing decides is allowed. A conversation is allowed when its source may begin it and its destination may
// have it. Then both directions of it are.
package netpol

import (
	"net/netip"
	"strings"

	"github.com/vigie-io/vigie/internal/policy"
)

// Kind is a kind of policy.
type Kind string

// The kinds that are read.
const (
	NetworkPolicy                  Kind = "NetworkPolicy"
	ClusterNetworkPolicy           Kind = "ClusterNetworkPolicy"
	CiliumNetworkPolicy            Kind = "CiliumNetworkPolicy"
	CiliumClusterwideNetworkPolicy Kind = "CiliumClusterwideNetworkPolicy"
)

// Kinds lists every kind that is read.
func Kinds() []Kind {
	return []Kind{NetworkPolicy, ClusterNetworkPolicy, CiliumNetworkPolicy, CiliumClusterwideNetworkPolicy}
}

// Policy is one policy of any kind, checked. It is immutable.
type Policy struct {
	Kind      Kind
	Namespace string // empty: of the whole cluster
	Name      string
	// Mode is Enforce unless the annotation vigie.io/mode says audit: then it denies nothing, and what it would have
	// denied is told.
	Mode     policy.Mode
	Tier     Tier
	Priority int // in its tier, the lowest first
	Subject  PodSelector
	// Directions are Ingress and Egress.
	Directions [Directions]Rules
	Source     string // text that it was parsed from
}

// ID names the policy among all: "NetworkPolicy/NAMESPACE/NAME", or without the namespace.
func (p *Policy) ID() string {
	return strings.Join(append([]string{string(p.Kind)}, nonEmpty(p.Namespace, p.Name)...), "/")
}

func nonEmpty(words ...string) (out []string) {
	for _, w := range words {
		if w != "" {
			out = append(out, w)
		}
	}
	return out
}

// Tier is when a policy is asked.
type Tier uint8

// The tiers, in the order in which they are asked.
const (
	Admin Tier = iota
	Namespace
	Baseline
	Tiers
)

// Direction is where a conversation goes, as the pod sees it that is judged.
type Direction uint8

// The directions.
const (
	Egress Direction = iota
	Ingress
	Directions
)

// String is the direction's name in policies.
func (d Direction) String() string { return [...]string{"egress", "ingress"}[d] }

// Rules are those of one direction, in their order.
type Rules struct {
	// Isolates: what no rule of the tier Namespace allows is denied.
	Isolates bool
	List     []Rule
}

// Rule is about conversations with one of its Peers at one of its Ports.
type Rule struct {
	Field  string // "spec.egress[0]"
	Name   string // that the policy gives it; may be empty
	Action Action
	// Peers are the other ends; nil: any.
	Peers []Peer
	// Ports are those of the conversation's destination; nil: all, of TCP, UDP and SCTP.
	Ports []Port
}

// Action is what a rule does.
type Action uint8

// The actions.
const (
	Allow Action = iota + 1
	Deny
	Pass
)

// Peer is a kind of other end. One of its fields is set.
type Peer struct {
	Pods   *PodSelector
	Nodes  *LabelSelector
	Block  *Block
	Entity Entity
	Domain string // pattern of DNS names by which a pod asked for the address, as policy.MatchName has them
}

// Block is a range of addresses without some of its parts.
type Block struct {
	Prefix netip.Prefix
	Except []netip.Prefix
	// Outside: it means no pod and no node, as Cilium has it.
	Outside bool
}

// Entity is a kind of other end that has a name in Cilium's policies.
type Entity string

// The entities that are carried.
const (
	EntityAll           Entity = "all"
	EntityCluster       Entity = "cluster"
	EntityHost          Entity = "host"
	EntityRemoteNode    Entity = "remote-node"
	EntityWorld         Entity = "world"
	EntityKubeAPIServer Entity = "kube-apiserver"
)

// PodSelector selects pods that are not in their node's network.
type PodSelector struct {
	Namespace  string        // when not empty, in this namespace alone
	Namespaces LabelSelector // of the namespace
	Pods       LabelSelector
}

// Port is ports of a protocol.
type Port struct {
	Protocol    uint8  // IPPROTO_TCP, UDP or SCTP; 0: any of them
	First, Last uint16 // 0 and 65535 for all
	// Name, when not empty, stands for the port that a container of the destination calls so, whose protocol is Protocol.
	Name string
}

// ModeAnnotation is what makes a policy of a foreign kind only watch.
const ModeAnnotation = "vigie.io/mode"
