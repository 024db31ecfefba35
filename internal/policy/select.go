// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/vigie-io/vigie/internal/model"
)

// Env is what compiling asks the host.
type Env struct {
	// UserID looks up the uid of a login name; nil: no name is known.
	UserID func(name string) (uint32, error)
}

// Selection is a selector ready for use: whose processes it selects. It is immutable.
type Selection struct {
	selector *Selector
	uid      uint32
	binary   Matcher // class 1 is that of the selector's binaries
}

// NewSelection prepares a selector. It fails when the selector's user is unknown.
func NewSelection(s *Selector, env Env) (*Selection, error) {
	out := &Selection{selector: s}
	if s.User != "" {
		n, err := strconv.ParseUint(s.User, 10, 32)
		if out.uid = uint32(n); err != nil {
			if env.UserID == nil {
				return nil, fmt.Errorf("spec.selector.user: login names are not known here: write the uid of %s", s.User)
			}
			if out.uid, err = env.UserID(s.User); err != nil {
				return nil, fmt.Errorf("spec.selector.user: look up %s: %w; write the uid", s.User, err)
			}
		}
	}
	if s.Binary == "" {
		return out, nil
	}
	g, err := parsePathGlob(s.Binary)
	if err != nil {
		return nil, fmt.Errorf("spec.selector.binary: %q %w", s.Binary, err)
	}
	a, err := compileAutomaton([]glob{g})
	if err == nil {
		class := make([]uint16, len(a.sets))
		for i := 1; i < len(class); i++ {
			class[i] = 1
		}
		out.binary, err = a.matcher(class, 2)
	}
	if err != nil {
		return nil, fmt.Errorf("spec.selector.binary: %q is %w: use fewer wildcards", s.Binary, err)
	}
	return out, nil
}

// UID is the uid that the selector names, if it names a user.
func (s *Selection) UID() (uint32, bool) { return s.uid, s.selector.User != "" }

// Workload reports whether a workload has what the selector asks of workloads; w may be nil.
func (s *Selection) Workload(w *model.Workload) bool { return s.selector.SelectsWorkload(w) }

// Own reports whether a process has by itself what the selector asks of user and binary.
func (s *Selection) Own(p *model.Process) bool {
	return (s.selector.User == "" || (!p.KernelThread && p.Creds.UID == s.uid)) &&
		(s.selector.Binary == "" || s.binary.Class(binaryPath(p)) == 1)
}

// Selects reports whether a process is selected: its workload is one, and it, an image that it ran before or an
// ancestor is of the user and binary. before gives the next older one of these, nil at the end; at most 1024 are asked.
func (s *Selection) Selects(p *model.Process, before func(*model.Process) *model.Process) bool {
	if p == nil || p.KernelThread || !s.Workload(p.Workload) {
		return false
	}
	for range 1024 {
		if s.Own(p) {
			return true
		}
		if before == nil {
			return false
		}
		if p = before(p); p == nil {
			return false
		}
	}
	return false
}

// SelectsWorkload reports whether a workload has the labels, unit and container that the selector names; w may be nil.
func (s *Selector) SelectsWorkload(w *model.Workload) bool {
	if w == nil {
		return len(s.MatchLabels) == 0 && s.Unit == "" && s.Container == "" && s.Namespace == ""
	}
	if s.Namespace != "" && s.Namespace != w.Namespace {
		return false
	}
	for name, want := range s.MatchLabels {
		if have, ok := w.Labels[name]; !ok || have != want {
			return false
		}
	}
	return (s.Unit == "" || matchAny(s.Unit, unitNames(w))) && (s.Container == "" || matchAny(s.Container, containerNames(w)))
}

// unitNames are the systemd units that a workload is: its name, and the last part of its cgroup, which for a session is
// its scope.
func unitNames(w *model.Workload) []string {
	switch w.Kind {
	case model.WorkloadUnit:
		return []string{w.Name, path.Base(w.Cgroup)}
	case model.WorkloadSession:
		return []string{path.Base(w.Cgroup)}
	}
	return nil
}

func containerNames(w *model.Workload) []string {
	switch w.Kind {
	case model.WorkloadContainer:
		return []string{w.Name}
	case model.WorkloadPod:
		return []string{w.Container}
	}
	return nil
}

func matchAny(pattern string, names []string) bool {
	return slices.ContainsFunc(names, func(n string) bool { return n != "" && MatchPath(pattern, n) })
}

// String is the selector in words: "unit nginx.service, user www-data".
func (s *Selector) String() string {
	var parts []string
	names := make([]string, 0, len(s.MatchLabels))
	for name := range s.MatchLabels {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		parts = append(parts, "label "+name+"="+s.MatchLabels[name])
	}
	for _, p := range [...]struct{ what, value string }{{"namespace ", s.Namespace}, {"unit ", s.Unit}, {"container ", s.Container}, {"user ", s.User}, {"binary ", s.Binary}} {
		if p.value != "" {
			parts = append(parts, p.what+p.value)
		}
	}
	if len(parts) == 0 {
		return "every process"
	}
	return strings.Join(parts, ", ")
}
