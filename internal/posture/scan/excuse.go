// SPDX-License-Identifier: Apache-2.0

package scan

import (
	"slices"
	"time"

	"github.com/vigie-io/vigie/internal/posture/exception"
)

// Excused is a control that an object fails, and may for a while.
type Excused struct {
	Control   string    `json:"control"`
	Object    Ref       `json:"object"`
	Message   string    `json:"message"`
	Exception string    `json:"exception"`
	Owner     string    `json:"owner"`
	Reason    string    `json:"reason"`
	Expires   time.Time `json:"expires"`
}

// WithExceptions gives a judge exceptions that hold at a moment.
func (j *Judge) WithExceptions(set *exception.Set, now time.Time) *Judge {
	with := *j
	with.exceptions, with.now = set, now
	return &with
}

// WithScope gives a judge the namespaces that a control is about: a failure elsewhere is none.
func (j *Judge) WithScope(scope func(control string, namespaceLabels map[string]string) bool) *Judge {
	with := *j
	with.scope = scope
	return &with
}

// finish takes out of the report what is excused, and sorts and counts the rest.
func (s *state) finish() {
	s.excuse()
	s.report.finish()
}

// excuse is last: the labels of a namespace may stand in the last file.
func (s *state) excuse() {
	j, r := s.judge, s.report
	counted := map[string]bool{}
	r.collect(func(f *Finding) bool {
		subject := *f.subject
		if ns := s.inventory.namespaces[subject.Namespace]; ns != nil {
			subject.NamespaceLabels = ns.Labels
		}
		if j.scope != nil && !j.scope(f.Control, subject.NamespaceLabels) {
			r.tally(counted, f).Failed--
			return true
		}
		e := j.exceptions.Excuse(f.Control, subject, j.now)
		if e == nil {
			return false
		}
		r.Excused = append(r.Excused, Excused{Control: f.Control, Object: f.Object, Message: f.Message, Exception: e.Name,
			Owner: e.Spec.Owner, Reason: e.Spec.Reason, Expires: e.Spec.Expires.Time})
		t := r.tally(counted, f)
		t.Failed--
		t.Excused++
		return true
	})
}

// tally is the one to change for a finding; of the second finding of one failure it is nobody's.
func (r *Report) tally(counted map[string]bool, f *Finding) *Tally {
	key := f.Control + "\x00" + f.File + "\x00" + f.Object.APIVersion + f.Object.String()
	if counted[key] {
		return &Tally{}
	}
	counted[key] = true
	i := slices.IndexFunc(r.Tallies, func(t Tally) bool { return t.Control == f.Control })
	return &r.Tallies[i]
}
