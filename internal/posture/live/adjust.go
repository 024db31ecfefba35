// SPDX-License-Identifier: Apache-2.0

// Package live asks an agent what containers did, and raises or lowers the findings of a scan by it. In: a report, and the agent's
// history by its API. Out: the same report, in which a finding says what was seen.
package live

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/vigie-io/vigie/internal/posture/control"
	"github.com/vigie-io/vigie/internal/posture/facts"
	"github.com/vigie-io/vigie/internal/posture/scan"
)

// opinion is what was seen, in words, and in which direction it moves a finding: 1 is worse, -1 is better.
type opinion struct {
	text string
	move int
}

// tokenPath is where the token of a service account is mounted.
const tokenPath = "/var/run/secrets/kubernetes.io/serviceaccount"

// judgement makes an opinion of what was seen about a finding.
type judgement func(facts.Seen, *scan.Finding) opinion

// opinions are the controls that run-time facts say something about.
func opinions() map[string]judgement {
	all := map[string]judgement{
		"privileged":            capabilities(nil, 1),
		"privileged-raw-device": capabilities(nil, 1),
		"capabilities-baseline": capabilities(nil, 0),
		"capabilities-drop-all": capabilities(nil, 0),
		"host-port":             connections,
		"service-account-token": token,
		"long-lived-token":      token,
		"read-only-root":        writes,
		"run-as-non-root":       users,
		"run-as-user-zero":      users,
		"privilege-escalation":  setuid,
	}
	for id, capability := range map[string]string{"capability-bpf": "BPF", "capability-dac-read-search": "DAC_READ_SEARCH", "capability-net-admin": "NET_ADMIN",
		"capability-net-raw": "NET_RAW", "capability-sys-admin": "SYS_ADMIN", "capability-sys-module": "SYS_MODULE", "capability-sys-ptrace": "SYS_PTRACE",
		"capability-sys-rawio": "SYS_RAWIO"} {
		all[id] = capabilities([]string{capability}, 1)
	}
	return all
}

// capabilities is about the use of some, or of any; used is how that moves the finding.
func capabilities(of []string, used int) judgement {
	return func(s facts.Seen, _ *scan.Finding) opinion {
		var found []string
		for _, c := range s.Capabilities {
			if c == unseen {
				return opinion{unseen, 0}
			}
			if of == nil || slices.Contains(of, c) {
				found = append(found, c)
			}
		}
		if len(found) > 0 {
			return opinion{"it uses " + some(found), used}
		}
		if of == nil {
			return opinion{"it never used a capability", -1}
		}
		return opinion{"it never used " + of[0], -1}
	}
}

func connections(s facts.Seen, _ *scan.Finding) opinion {
	if len(s.Listens) == 0 {
		return opinion{"no connection ever came in", -1}
	}
	var ports []string
	for _, p := range s.Listens {
		ports = append(ports, fmt.Sprint(p))
	}
	return opinion{"connections came in on port " + some(ports), 0}
}

func token(s facts.Seen, _ *scan.Finding) opinion {
	if slices.ContainsFunc(s.Reads, func(path string) bool { return facts.Below(path, tokenPath) }) {
		return opinion{"the token is read", 0}
	}
	return opinion{"the token was never read", -1}
}

func writes(s facts.Seen, f *scan.Finding) opinion {
	if outside := s.Outside(f.Mounts); len(outside) > 0 {
		return opinion{"it writes " + some(outside), 0}
	}
	return opinion{"it never wrote outside of volumes: the fix breaks nothing", 0}
}

func users(s facts.Seen, _ *scan.Finding) opinion {
	if slices.Contains(s.Users, 0) {
		return opinion{"it runs as root", 1}
	}
	return opinion{"no process ran as root", -1}
}

func setuid(s facts.Seen, _ *scan.Finding) opinion {
	if s.Setuid {
		return opinion{"a setuid program was started", 1}
	}
	return opinion{"no setuid program was started", -1}
}

func some(all []string) string {
	const most = 3
	if len(all) > most {
		return strings.Join(all[:most], ", ") + " and more"
	}
	return strings.Join(all, ", ")
}

// Adjust raises and lowers findings by one severity. What was seen counts at once; that something was not seen only when the container
// was watched for least. Findings about no container, and containers that were never watched, stay as they are.
func Adjust(r *scan.Report, source facts.Source, least time.Duration) {
	all := opinions()
	for i := range r.Findings {
		f := &r.Findings[i]
		ask, ok := all[f.Control]
		if !ok {
			continue
		}
		w := facts.Workload{Kind: f.Object.Kind, Namespace: f.Object.Namespace, Name: f.Object.Name}
		seen, ok := source.Container(w, f.Container)
		if !ok {
			continue
		}
		o := ask(seen, f)
		watched := seen.To.Sub(seen.From)
		if o.move < 0 && watched < least {
			o.move = 0
		}
		f.Seen = fmt.Sprintf("%s, in %s", o.text, seen.Watched())
		f.Severity = moved(f.Severity, o.move)
	}
	r.Sort()
}

func moved(s control.Severity, move int) control.Severity {
	all := control.Severities()
	return all[min(max(s.Rank()-move, 0), len(all)-1)]
}
