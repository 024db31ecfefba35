// SPDX-License-Identifier: Apache-2.0

package scan

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"slices"
	"strings"

	"github.com/vigie-io/vigie/internal/posture/control"
	"github.com/vigie-io/vigie/internal/posture/exception"
)

// Report is what a scan found.
type Report struct {
	Findings   []Finding   `json:"findings"`
	Problems   []Problem   `json:"problems"` // what could not be read or evaluated
	Tallies    []Tally     `json:"controls"`
	Frameworks []Framework `json:"frameworks"`
	Files      int         `json:"files"`
	Objects    int         `json:"objects"`
	Ignored    int         `json:"ignored"`          // documents that are no Kubernetes objects
	Charts     int         `json:"charts,omitempty"` // that were rendered
	Known      int         `json:"known"`            // findings that the baseline has
	Excused    []Excused   `json:"excused,omitempty"`
	// Live: the objects stand in no file. Then a finding's file is where the object is, and its line says nothing.
	Live bool `json:"live,omitempty"`

	Controls []*control.Control `json:"-"` // those that were asked

	texts map[string]string // of findings: most are many times there
	pages [][]Finding       // found so far. They become Findings at the end, once: a list that grows would be several times in memory
}

// pageFindings is how many findings are in a page.
const pageFindings = 128

// record takes in a finding.
func (r *Report) record(f Finding) {
	f.Path, f.Message, f.Value, f.Container = r.intern(f.Path), r.intern(f.Message), r.intern(f.Value), r.intern(f.Container)
	last := len(r.pages) - 1
	if last < 0 || len(r.pages[last]) == pageFindings {
		r.pages = append(r.pages, make([]Finding, 0, pageFindings))
		last++
	}
	r.pages[last] = append(r.pages[last], f)
}

// collect makes Findings of what was recorded, in order, but for those that drop takes.
func (r *Report) collect(drop func(*Finding) bool) {
	var found []*Finding
	for _, page := range r.pages {
		for i := range page {
			if !drop(&page[i]) {
				found = append(found, &page[i])
			}
		}
	}
	slices.SortStableFunc(found, compareFindings)
	r.Findings = make([]Finding, len(found))
	for i, f := range found {
		r.Findings[i] = *f
	}
	r.pages, r.texts = nil, nil
}

// intern is a text that equal ones share.
func (r *Report) intern(s string) string {
	have, ok := r.texts[s]
	if !ok {
		have = s
		r.texts[s] = s
	}
	return have
}

// Finding is a control that an object fails, at one place.
type Finding struct {
	Control  string           `json:"control"`
	Title    string           `json:"title"`
	Severity control.Severity `json:"severity"`
	Message  string           `json:"message"`
	Object   Ref              `json:"object"`
	// Container is the name of the container that it is about; empty when it is about none.
	Container string `json:"container,omitempty"`
	File      string `json:"file"`
	Line      int    `json:"line"`
	Column    int    `json:"column"`
	Path      string `json:"path,omitempty"`  // in the object
	Value     string `json:"value,omitempty"` // what stands there; empty when nothing does, or an object
	// Fingerprint is the same as long as control, object and path are: lines may move.
	Fingerprint string `json:"fingerprint"`
	// Seen is what an agent saw of it at run time; the severity takes that into account.
	Seen string `json:"seen,omitempty"`
	// Item is the path of the object in its document, when it is an item of a list.
	Item []string `json:"-"`
	// Mounts are the paths of the container's volumes, of a finding whose fix stops writes elsewhere.
	Mounts []string `json:"-"`

	subject *exception.Subject // of the object, for exceptions
}

// Ref names an object.
type Ref struct {
	APIVersion string `json:"apiVersion"`
	Kind       string `json:"kind"`
	Namespace  string `json:"namespace,omitempty"`
	Name       string `json:"name,omitempty"`
}

// String is as in "Deployment shop/web".
func (r Ref) String() string {
	if r.Namespace == "" {
		return r.Kind + " " + r.Name
	}
	return r.Kind + " " + r.Namespace + "/" + r.Name
}

// Problem is something that was not scanned, or a control that could not be evaluated.
type Problem struct {
	File    string `json:"file"`
	Line    int    `json:"line"`
	Column  int    `json:"column"`
	Control string `json:"control,omitempty"`
	Message string `json:"message"`
	Note    bool   `json:"note,omitempty"` // good to know; everything was scanned that could be
}

// Tally counts how objects did by a control. Unevaluated is never among Passed.
type Tally struct {
	Control     string `json:"control"`
	Passed      int    `json:"passed"`
	Failed      int    `json:"failed"`
	Unevaluated int    `json:"unevaluated"`
	Excused     int    `json:"excused,omitempty"` // failed, and may
}

// Framework is the score of one: the share, in percent, of judgements by its controls that passed.
type Framework struct {
	Name  string  `json:"name"`
	Title string  `json:"title"`
	Score float64 `json:"score"`
	Tally
}

func newReport(controls []*control.Control) *Report {
	r := &Report{Controls: controls, texts: map[string]string{}, Tallies: make([]Tally, len(controls)), Findings: []Finding{}, Problems: []Problem{}}
	for i, c := range controls {
		r.Tallies[i].Control = c.ID
	}
	return r
}

// add takes in what another part of the scan found.
func (r *Report) add(other *Report) {
	r.pages = append(r.pages, other.pages...)
	r.Problems = append(r.Problems, other.Problems...)
	r.Objects += other.Objects
	r.Ignored += other.Ignored
	for i, t := range other.Tallies {
		r.Tallies[i].Passed += t.Passed
		r.Tallies[i].Failed += t.Failed
		r.Tallies[i].Unevaluated += t.Unevaluated
	}
}

// Sort puts the worst first.
func (r *Report) Sort() {
	slices.SortStableFunc(r.Findings, func(a, b Finding) int { return compareFindings(&a, &b) })
	r.sortProblems()
}

func compareFindings(a, b *Finding) int {
	return cmp.Or(cmp.Compare(a.Severity.Rank(), b.Severity.Rank()), cmp.Compare(a.File, b.File), cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column), cmp.Compare(a.Control, b.Control),
		cmp.Compare(a.Path, b.Path))
}

func (r *Report) sortProblems() {
	slices.SortStableFunc(r.Problems, func(a, b Problem) int {
		return cmp.Or(cmp.Compare(a.File, b.File), cmp.Compare(a.Line, b.Line), cmp.Compare(a.Control, b.Control))
	})
}

// finish sorts problems and scores.
func (r *Report) finish() {
	r.sortProblems()
	for _, name := range control.FrameworkNames() {
		f := Framework{Name: name, Title: control.Frameworks()[name]}
		for i, c := range r.Controls {
			if len(c.Frameworks[name]) > 0 {
				f.Passed += r.Tallies[i].Passed
				f.Failed += r.Tallies[i].Failed
				f.Unevaluated += r.Tallies[i].Unevaluated
			}
		}
		if all := f.Passed + f.Failed + f.Unevaluated; all > 0 {
			f.Score = float64(f.Passed*1000/all) / 10 // rounded down: 100 is all of them
			r.Frameworks = append(r.Frameworks, f)
		}
	}
}

// Worst is the worst severity among the findings; ok is false when there are none.
func (r *Report) Worst() (worst control.Severity, ok bool) {
	if len(r.Findings) == 0 {
		return "", false
	}
	return r.Findings[0].Severity, true // they are sorted
}

// Incomplete reports whether something that should have been scanned was not.
func (r *Report) Incomplete() bool {
	return slices.ContainsFunc(r.Problems, func(p Problem) bool { return !p.Note })
}

func fingerprint(control string, object Ref, path string) string {
	group, _, _ := strings.Cut(object.APIVersion, "/")
	sum := sha256.Sum256([]byte(strings.Join([]string{control, group, object.Kind, object.Namespace, object.Name, path}, "\x00")))
	return hex.EncodeToString(sum[:8])
}

// Subtract takes out the findings that a baseline has, each as often as it is there.
func (r *Report) Subtract(known map[string]int) {
	left := make(map[string]int, len(known))
	for k, n := range known {
		left[k] = n
	}
	r.Findings = slices.DeleteFunc(r.Findings, func(f Finding) bool {
		if left[f.Fingerprint] == 0 {
			return false
		}
		left[f.Fingerprint]--
		r.Known++
		return true
	})
}
