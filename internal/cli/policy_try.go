// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/vigie-io/vigie/internal/agent"
	"github.com/vigie-io/vigie/internal/cli/term"
	"github.com/vigie-io/vigie/internal/model"
	"github.com/vigie-io/vigie/internal/policy"
)

// policyTestKind is the kind of documents with cases.
const policyTestKind = "PolicyTest"

func newPolicyTest(env Env) *cobra.Command {
	var out format
	var files []string
	cmd := &cobra.Command{
		Use:   "test -f FILE|DIR",
		Short: "Hold policies to cases: what they must allow and deny. Needs no agent",
		Long: "Hold policies to cases, without an agent and without privilege: for CI. The files hold policies and documents of kind PolicyTest:\n\n" +
			"  apiVersion: vigie.io/v1alpha1\n" +
			"  kind: PolicyTest\n" +
			"  metadata: {name: web}\n" +
			"  as: {unit: nginx.service, binary: /usr/sbin/nginx, user: www-data}\n" +
			"  cases:\n" +
			"  - name: serves its pages, and nothing else\n" +
			"    allow: [read /var/www/html/index.html, listen 443/tcp]\n" +
			"    deny: [exec /bin/sh, read /etc/shadow, \"connect 192.0.2.1:22/tcp\", capability CAP_NET_RAW]\n\n" +
			"`as` says who tries: unit, container, labels, user, binary and parent; a case can say its own. What is denied in mode enforce is\n" +
			"denied here, whatever the mode of the policy.\n\n" +
			"The exit code is 0 when all hold, 1 when one does not, 2 when a file cannot be read.",
		Example: "  vigie policy test -f web.yaml -f web_test.yaml\n  vigie policy test -f policies/ -o wide",
		Args:    cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			s, err := loadSuite(env, files)
			if err != nil {
				return Cannot(err)
			}
			results := s.run()
			if err := printResults(env, out, s, results); err != nil {
				return err
			}
			if slices.ContainsFunc(results, func(r caseResult) bool { return !r.Holds }) {
				return exit(ExitFailed)
			}
			return nil
		},
	}
	out.flag(cmd)
	policyFiles(cmd, &files)
	return cmd
}

// suite is policies with the cases that they are held to.
type suite struct {
	policies []testedPolicy
	tests    []*policyTest
	users    map[string]uint32
}

type testedPolicy struct {
	*policy.Policy
	selection *policy.Selection
}

// loadSuite reads files. The error lists all problems.
func loadSuite(env Env, files []string) (*suite, error) {
	s := &suite{users: make(map[string]uint32)}
	paths, err := yamlFiles(files)
	if err != nil {
		return nil, err
	}
	var errs []error
	for _, path := range paths {
		text, err := readPolicyFile(env, path)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		docs, err := agent.Documents(sourceName(path), text)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		for _, d := range docs {
			errs = append(errs, s.add(d))
		}
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	if len(s.tests) == 0 {
		return nil, fmt.Errorf("there are no cases in %s: write a document of kind %s, `vigie policy test --help` shows one", strings.Join(files, ", "), policyTestKind)
	}
	if len(s.policies) == 0 {
		return nil, fmt.Errorf("there are no policies in %s: give their files with -f too", strings.Join(files, ", "))
	}
	return s, nil
}

// add takes a document in.
func (s *suite) add(d agent.Document) error {
	switch d.Kind {
	case policyTestKind:
		t, err := parsePolicyTest(d)
		if err != nil {
			return err
		}
		s.tests = append(s.tests, t)
	case policy.Kind:
		p, err := d.Policy()
		if err != nil {
			return err
		}
		p.Mode = policy.Enforce // what it would deny is what it is held to
		selection, err := policy.NewSelection(&p.Selector, policy.Env{UserID: s.uid})
		if err != nil {
			return fmt.Errorf("%s: %w", d.NameAt, err)
		}
		s.policies = append(s.policies, testedPolicy{p, selection})
	default:
		if strings.HasPrefix(d.Kind, "TracingPolicy") {
			return nil // may stand beside; what it does only a kernel can say
		}
		return fmt.Errorf("%s: kind: %q cannot be tested: only %s is judged without a kernel", d.KindAt, d.Kind, policy.Kind)
	}
	return nil
}

// uid gives every user a number of its own: the host on which the tests run need not have them.
func (s *suite) uid(name string) (uint32, error) {
	if n, err := strconv.ParseUint(name, 10, 32); err == nil {
		return uint32(n), nil
	}
	const first = 3 << 30 // no host gives these
	if _, ok := s.users[name]; !ok {
		s.users[name] = first + uint32(len(s.users))
	}
	return s.users[name], nil
}

// caseResult is what became of one access.
type caseResult struct {
	Test   string `json:"test"`
	Case   string `json:"case"`
	At     string `json:"at"`
	Access string `json:"access"`
	Want   string `json:"want"` // allow or deny
	Got    string `json:"got"`
	Policy string `json:"policy,omitempty"` // that decided
	Rule   string `json:"rule,omitempty"`
	Reason string `json:"reason"` // in words
	Holds  bool   `json:"holds"`
}

// run judges every access.
func (s *suite) run() []caseResult {
	var results []caseResult
	for _, t := range s.tests {
		for _, c := range t.cases {
			for _, a := range c.accesses {
				r := caseResult{Test: t.name, Case: c.name, At: a.at, Access: a.text, Want: "allow", Got: "allow"}
				if a.denied {
					r.Want = "deny"
				}
				s.judge(c.as, a.access, &r)
				results = append(results, r)
			}
		}
	}
	return results
}

// judge asks every policy that selects the process. One that denies decides; where none selects it the case holds no
// policy to anything, which is a mistake in it.
func (s *suite) judge(as actor, access policy.Access, r *caseResult) {
	selected, process := 0, s.process(as)
	parent := &model.Process{Binary: as.parent, Workload: process.Workload, Creds: process.Creds}
	before := func(p *model.Process) *model.Process {
		if p == process && as.parent != "" {
			return parent
		}
		return nil
	}
	r.Reason = "no rule speaks of it"
	for _, p := range s.policies {
		if !p.selection.Selects(process, before) {
			continue
		}
		selected++
		j := p.Judge(policy.Subject{Binary: as.binary, Parent: as.parent}, access)
		switch {
		case j.Action > policy.ActAllow:
			r.Got, r.Policy, r.Rule = "deny", p.Name, j.Rule
			r.Reason = fmt.Sprintf("denied by %s of policy %s", j.Rule, p.Name)
			r.Holds = r.Want == r.Got
			return
		case j.Rule != "":
			r.Policy, r.Rule = p.Name, j.Rule
			r.Reason = fmt.Sprintf("allowed by %s of policy %s", j.Rule, p.Name)
		}
	}
	r.Holds = r.Want == r.Got
	if selected == 0 {
		r.Holds, r.Reason = false, "no policy selects "+as.String()+": see `as` and the policies' selectors"
	}
}

// process is the actor as the agent would see it.
func (s *suite) process(as actor) *model.Process {
	p := &model.Process{Binary: as.binary}
	if as.user != "" {
		p.Creds.UID, _ = s.uid(as.user)
	}
	switch {
	case as.container != "" || as.labels != nil:
		p.Workload = &model.Workload{Kind: model.WorkloadContainer, Name: as.container, Container: as.container, Labels: as.labels}
	case as.unit != "":
		p.Workload = &model.Workload{Kind: model.WorkloadUnit, Name: as.unit}
	}
	return p
}

// String is the actor in words.
func (a actor) String() string {
	var parts []string
	for _, p := range [][2]string{{"", a.binary}, {"unit ", a.unit}, {"container ", a.container}, {"user ", a.user}} {
		if p[1] != "" {
			parts = append(parts, p[0]+p[1])
		}
	}
	return cmp.Or(strings.Join(parts, ", "), "a process without a name")
}

func printResults(env Env, out format, s *suite, results []caseResult) error {
	if out == formatJSON || out == formatYAML {
		for _, r := range results {
			line, err := json.Marshal(r)
			if err != nil {
				return fmt.Errorf("write json: %w", err)
			}
			write := writeJSON
			if out == formatYAML {
				write = writeYAML
			}
			if err := write(env.Out, line); err != nil {
				return err
			}
		}
		return nil
	}
	st := env.screen().Style
	failed := 0
	for _, r := range results {
		mark := st.Green("ok  ")
		if !r.Holds {
			mark = st.Red("FAIL")
			failed++
		}
		if r.Holds && out != formatWide {
			continue
		}
		line := fmt.Sprintf("%s %s: %s: %s", mark, term.Escape(r.At), term.Escape(r.Case), st.Bold(term.Escape(r.Access)))
		if r.Want != r.Got {
			line += fmt.Sprintf(": must be %s", map[string]string{"allow": "allowed", "deny": "denied"}[r.Want])
		}
		if _, err := fmt.Fprintf(env.Out, "%s: %s\n", line, term.Escape(r.Reason)); err != nil {
			return err
		}
	}
	cases := 0
	for _, t := range s.tests {
		cases += len(t.cases)
	}
	sum := fmt.Sprintf("%s in %s against %s", pluralOf(len(results), "access", "accesses"), plural(cases, "case"), pluralOf(len(s.policies), "policy", "policies"))
	if failed > 0 {
		_, err := fmt.Fprintf(env.Out, "%s: %d of %s went wrong\n", st.Red("FAIL"), failed, sum)
		return err
	}
	_, err := fmt.Fprintf(env.Out, "%s: %s\n", st.Green("ok"), sum)
	return err
}
