// SPDX-License-Identifier: Apache-2.0

package netpol_test

import (
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/vigie-io/vigie/internal/policy"
	"github.com/vigie-io/vigie/internal/policy/netpol"
)

func parse(t *testing.T, text string) *netpol.Policy {
	t.Helper()
	list, err := netpol.Parse("p.yaml", []byte(text))
	if err != nil || len(list) != 1 {
		t.Fatalf("%d policies, %v\n%s", len(list), err, text)
	}
	return list[0]
}

const (
	np     = "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: p, namespace: x}\nspec: "
	cnp    = "apiVersion: policy.networking.k8s.io/v1alpha2\nkind: ClusterNetworkPolicy\nmetadata: {name: p}\nspec: "
	cilium = "apiVersion: cilium.io/v2\nkind: CiliumNetworkPolicy\nmetadata: {name: p, namespace: x}\nspec: "
)

// TestPolicyTypes holds what a policy isolates, by what it says and by what it leaves out.
func TestPolicyTypes(t *testing.T) {
	for spec, want := range map[string][2]bool{ // egress, ingress
		"{podSelector: {}}":                                                    {false, true},
		"{podSelector: {}, ingress: []}":                                       {false, true},
		"{podSelector: {}, egress: []}":                                        {false, true},
		"{podSelector: {}, egress: [{}]}":                                      {true, true},
		"{podSelector: {}, policyTypes: [Egress]}":                             {true, false},
		"{podSelector: {}, policyTypes: [Ingress], egress: [{}]}":              {false, true},
		"{podSelector: {}, policyTypes: [Egress, Ingress], ingress: [{}, {}]}": {true, true},
	} {
		p := parse(t, np+spec)
		if got := [2]bool{p.Directions[netpol.Egress].Isolates, p.Directions[netpol.Ingress].Isolates}; got != want {
			t.Errorf("%s: egress, ingress %v, want %v", spec, got, want)
		}
	}
	for spec, want := range map[string][2]bool{
		"{endpointSelector: {}, ingress: [{}]}":                                          {false, true},
		"{endpointSelector: {}, egressDeny: [{toEntities: [world]}]}":                    {true, false},
		"{endpointSelector: {}, ingress: [{}], enableDefaultDeny: {ingress: false}}":     {false, false},
		"{endpointSelector: {}, enableDefaultDeny: {egress: true}, description: a text}": {true, false},
	} {
		p := parse(t, cilium+spec)
		if got := [2]bool{p.Directions[netpol.Egress].Isolates, p.Directions[netpol.Ingress].Isolates}; got != want {
			t.Errorf("%s: egress, ingress %v, want %v", spec, got, want)
		}
	}
}

// TestWords holds how what was read says what it is: each form once.
func TestWords(t *testing.T) {
	for text, want := range map[string]string{
		np + "{podSelector: {}, ingress: [{}]}": "allow from everybody",
		np + "{podSelector: {}, ingress: [{from: [{podSelector: {matchLabels: {app: web}}}], ports: [{port: 80}]}]}":                                                                                    "allow from pods app in (web) of namespaces x *, port 80/tcp",
		np + "{podSelector: {}, ingress: [{from: [{namespaceSelector: {matchExpressions: [{key: a, operator: NotIn, values: [c, b]}, {key: d, operator: Exists}]}}]}]}":                                 "allow from pods * of namespaces  a notin (b, c), d",
		np + "{podSelector: {}, ingress: [{from: [{ipBlock: {cidr: 10.1.2.3/8, except: [10.1.0.0/16]}}], ports: [{protocol: SCTP, port: 7, endPort: 9}, {port: http, protocol: UDP}, {}]}]}":            "allow from 10.0.0.0/8 without 10.1.0.0/16, port 7-9/sctp, http/udp, */tcp",
		cnp + "{tier: Admin, priority: 3, subject: {namespaces: {}}, ingress: [{action: Deny, from: [{namespaces: {}}], protocols: [{destinationNamedPort: web}, {udp: {}}]}]}":                         "deny from pods * of namespaces  *, port web/*, */udp",
		cnp + "{tier: Baseline, priority: 3, subject: {pods: {podSelector: {}}}, ingress: [{action: Pass, from: [{pods: {namespaceSelector: {matchLabels: {a: b}}, podSelector: {}}}]}]}":               "pass from pods * of namespaces  a in (b)",
		cilium + "{endpointSelector: {}, ingress: [{fromEndpoints: [{matchLabels: {\"k8s:app\": web, \"k8s:io.kubernetes.pod.namespace\": y}}], toPorts: [{ports: [{port: \"53\", protocol: ANY}]}]}]}": "allow from pods app in (web) of namespaces  kubernetes.io/metadata.name in (y), port 53/*",
		cilium + "{endpointSelector: {}, ingressDeny: [{fromEntities: [world, remote-node]}]}":                                                                                                          "deny from world or remote-node",
		cilium + "{endpointSelector: {}, ingress: [{}]}": "allow from nobody",
		cilium + "{endpointSelector: {}, ingress: [{fromCIDR: [192.0.2.1]}, {fromCIDRSet: [{cidr: 10.0.0.0/8, except: [10.96.0.0/12]}]}]}": "allow from 192.0.2.1/32",
	} {
		p := parse(t, text)
		r := p.Directions[netpol.Ingress].List[0]
		if got := r.String(netpol.Ingress); got != want {
			t.Errorf("%s: %q, want %q", text, got, want)
		}
	}
	p := parse(t, cnp+"{tier: Admin, priority: 0, subject: {namespaces: {}}, egress: [{action: Accept, name: out, to: [{networks: [10.0.0.0/8, 2001:db8::/32]}, {nodes: {}}, {domainNames: [\"*.Example.org.\"]}], protocols: [{tcp: {destinationPort: {range: {start: 5, end: 9}}}}]}]}")
	r := p.Directions[netpol.Egress].List[0]
	if got, want := r.String(netpol.Egress), "allow to 10.0.0.0/8 or 2001:db8::/32 or nodes * or **.example.org, port 5-9/tcp"; got != want || p.Tier != netpol.Admin || r.Name != "out" {
		t.Errorf("%q, want %q", got, want)
	}
	if got := r.Ports[0].Protocol; got != unix.IPPROTO_TCP {
		t.Errorf("protocol %d", got)
	}
}

// TestMode holds that the annotation makes a policy of any kind only watch.
func TestMode(t *testing.T) {
	p := parse(t, strings.Replace(np, "namespace: x", "namespace: x, annotations: {vigie.io/mode: audit}", 1)+"{podSelector: {}}")
	if p.Mode != policy.Audit || p.ID() != "NetworkPolicy/x/p" {
		t.Errorf("mode %s of %s", p.Mode, p.ID())
	}
}

// TestErrors holds that what is wrong is told with the field's name and what to do.
func TestErrors(t *testing.T) {
	for text, want := range map[string]string{
		"kind: Pod":                           `p.yaml:1:7: kind: "Pod" is no network policy`,
		"apiVersion: v1\nkind: NetworkPolicy": `p.yaml:1:13: apiVersion: "v1" of NetworkPolicy is not read here: write networking.k8s.io/v1`,
		np + "{podselector: {}}":              "spec.podselector: is no field that is known here",
		np + "{podSelector: {matchExpressions: [{key: a, operator: In}]}}":                                  "spec.podSelector.matchExpressions[0].values: is missing: In needs at least one",
		np + "{podSelector: {matchExpressions: [{key: a, operator: Exists, values: [x]}]}}":                 "values: has no meaning beside Exists",
		np + "{podSelector: {}, ingress: [{from: [{}]}]}":                                                   "spec.ingress[0].from[0]: names nobody",
		np + "{podSelector: {}, ingress: [{from: [{ipBlock: {cidr: 10.0.0.0/33}}]}]}":                       "spec.ingress[0].from[0].ipBlock.cidr: \"10.0.0.0/33\" is no CIDR",
		np + "{podSelector: {}, ingress: [{from: [{ipBlock: {cidr: 10.0.0.0/8, except: [11.0.0.0/16]}}]}]}": "except[0]: 11.0.0.0/16 is not within 10.0.0.0/8",
		np + "{podSelector: {}, ingress: [{from: [{ipBlock: {cidr: 10.0.0.0/8}, podSelector: {}}]}]}":       "ipBlock: stands beside a selector",
		np + "{podSelector: {}, ingress: [{ports: [{port: 0}]}]}":                                           "ports[0].port: is no number from 1 to 65535",
		np + "{podSelector: {}, ingress: [{ports: [{port: 80, endPort: 79}]}]}":                             "endPort: is 79 and lies before port 80",
		np + "{podSelector: {}, ingress: [{ports: [{port: http, endPort: 80}]}]}":                           "endPort: stands beside a port's name",
		np + "{podSelector: {}, ingress: [{ports: [{endPort: 80}]}]}":                                       "endPort: has no port to begin at",
		np + "{podSelector: {}, ingress: [{ports: [{protocol: ICMP}]}]}":                                    `protocol: "ICMP" is not known: write TCP, UDP, SCTP`,
		np + "{podSelector: {}, policyTypes: [Both]}":                                                       "spec.policyTypes[0]",
		np + "{podSelector: []}":                                         "spec.podSelector: is not fields",
		cnp + "{tier: Top, priority: 1, subject: {namespaces: {}}}":      "spec.tier: \"Top\" is not known: write Admin, Baseline",
		cnp + "{tier: Admin, priority: 1001, subject: {namespaces: {}}}": "spec.priority: is no number from 0 to 1000",
		cnp + "{tier: Admin, subject: {}}":                               "spec.priority: is missing",
		cnp + "{tier: Admin, priority: 1, subject: {namespaces: {}}, ingress: [{action: Deny, from: [{networks: [10.0.0.0/8]}]}]}":                                      "from[0].networks: is no field that is known here",
		cnp + "{tier: Admin, priority: 1, subject: {namespaces: {}}, egress: [{action: Deny, to: [{domainNames: [a.example.org]}]}]}":                                   "domainNames: can be accepted only",
		cnp + "{tier: Admin, priority: 1, subject: {namespaces: {}}, egress: [{action: Deny, to: []}]}":                                                                 "to: wants 1 to 25 entries",
		cnp + "{tier: Admin, priority: 1, subject: {namespaces: {}}, egress: [{action: Deny, to: [{networks: [10.0.0.0/8]}], protocols: [{destinationNamedPort: x}]}]}": "protocols[0]: names a port",
		cilium + "{endpointSelector: {}, egress: [{toPorts: [{ports: [{port: \"80\"}], rules: {http: [{method: GET}]}}]}]}":                                             "spec.egress[0].toPorts[0].rules.http: HTTP rules are not carried",
		cilium + "{endpointSelector: {}, egress: [{toServices: [{k8sService: {serviceName: x}}]}]}":                                                                     "toServices: is not carried",
		cilium + "{endpointSelector: {}, egress: [{toEntities: [health]}]}":                                                                                             `the entity "health" is not carried`,
		cilium + "{endpointSelector: {matchLabels: {\"reserved:host\": \"\"}}}":                                                                                         "is none of a pod's: write entities",
		cilium + "{endpointSelector: {}, egress: [{toFQDNs: [{matchPattern: \"*\"}]}]}":                                                                                 "matches every name",
		cilium + "{nodeSelector: {}, endpointSelector: {}}":                                                                                                             "spec.nodeSelector: selects nodes",
		cilium + "{endpointSelector: {}, egress: [{icmps: []}]}":                                                                                                        "icmps: is not carried",
	} {
		_, err := netpol.Parse("p.yaml", []byte(text))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s:\n  %v\n  want %s", text, err, want)
		}
	}
}
