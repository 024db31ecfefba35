// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"strconv"
	"strings"

	"github.com/vigie-io/vigie/internal/model"
)

// Text is a rule of the policy in words: "read /etc/shadow by /usr/sbin/sshd".
func (t *Table) Text(rule int) string { return t.Policy.text(t.Rules[rule]) }

func (p *Policy) text(r Rule) string {
	if r.rest() {
		return restTexts[r.list]
	}
	switch i := int(r.index); r.list {
	case processesDeny:
		return p.Processes.Deny[i].text()
	case processesAllow:
		return p.Processes.Allow[i].text()
	case filesDeny:
		return p.Files.Deny[i].text()
	case filesAllow:
		return p.Files.Allow[i].text()
	case capabilitiesDeny:
		return p.Capabilities.Deny[i].text()
	case capabilitiesAllow:
		return p.Capabilities.Allow[i].text()
	case operationsDeny:
		return p.Operations.Deny[i].text()
	}
	for d := Egress; d < Directions; d++ {
		switch r.list {
		case denyOf(d):
			return p.direction(d).Deny[r.index].text(d)
		case allowOf(d):
			return p.direction(d).Allow[r.index].text(d)
		}
	}
	return "" // no rule
}

// restTexts are in words what a list of allowed things denies; of what is denied, what goes along with it.
var restTexts = [...]string{processesAllow: "execute what no rule allows", filesAllow: "use a file that no rule allows",
	egressDeny: "open a raw or packet socket, which rules for connecting do not reach", egressAllow: "connect or send to what no rule allows",
	ingressAllow: "accept from what no rule allows", listenAllow: "listen on what no rule allows", capabilitiesAllow: "use a capability that no rule allows"}

func (r *ProcessRule) text() string { return "execute " + r.Path + who(r.By, r.Parent) }

func (r *FileRule) text() string {
	names := make([]string, len(r.Access))
	for i, op := range r.Access {
		names[i] = string(op.operation())
	}
	return strings.Join(names, ", ") + " " + r.Path + who(r.By, r.Parent)
}

func (r *CapabilityRule) text() string {
	names := make([]string, len(r.Caps))
	for i, c := range r.Caps {
		names[i] = model.Cap(c).String()
	}
	return "use " + words(names) + who(r.By, r.Parent)
}

func (r *OperationRule) text() string { return words(r.Operations) + who(r.By, r.Parent) }

// text is a network rule in words: "connect to 10.0.0.0/8, port 443/tcp".
func (r *NetworkRule) text(d Direction) string {
	t := [...]string{"connect or send to ", "accept from ", "listen on "}[d]
	var ends []string
	for _, c := range r.CIDRs {
		end := c.CIDR
		if len(c.Except) > 0 {
			end += " but not " + words(c.Except)
		}
		ends = append(ends, end)
	}
	ends = append(ends, r.FQDNs...)
	if r.Workload != nil {
		ends = append(ends, r.Workload.String())
	}
	if len(ends) == 0 {
		ends = []string{"any address"}
	}
	t += words(ends)
	var ports []string
	for _, p := range r.Ports {
		ports = append(ports, p.String())
	}
	if len(ports) > 0 {
		t += ", " + words(ports)
	}
	return t + who(r.By, r.Parent)
}

func who(by, parent []string) string {
	t := ""
	if len(by) > 0 {
		t += " by " + words(by)
	}
	if len(parent) > 0 {
		t += " started by " + words(parent)
	}
	return t
}

// String is the range as policies write it: "443/tcp".
func (p PortRange) String() string {
	ports := strconv.Itoa(int(p.First)) + "-" + strconv.Itoa(int(p.Last))
	switch {
	case p.First == 0 && p.Last == 65535:
		ports = "*"
	case p.First == p.Last:
		ports = strconv.Itoa(int(p.First))
	}
	return ports + "/" + protocolName(p.Protocol)
}
