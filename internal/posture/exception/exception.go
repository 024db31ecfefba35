// SPDX-License-Identifier: Apache-2.0

// Package exception is what PolicyExceptions mean. In: their documents, from files or a cluster. Out: whether an object may
// fail a control now, and the same as CEL for the API server, which has no clock: see Condition.
package exception

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/vigie-io/vigie/api/crd/v1alpha1"
	"github.com/vigie-io/vigie/internal/posture/control"
	"github.com/vigie-io/vigie/internal/posture/object"
)

// Kind and APIVersion are those of the documents.
const (
	Kind       = "PolicyException"
	APIVersion = "vigie.io/v1alpha1"
)

// Exception is one PolicyException, checked.
type Exception struct {
	Name string
	Spec v1alpha1.PolicyExceptionSpec

	namespaces labels.Selector // nil: not asked
	selector   labels.Selector
	names      []*regexp.Regexp
}

// Subject is what an exception looks at.
type Subject struct {
	Kind            string
	Namespace       string            // empty when it is not in one
	NamespaceLabels map[string]string // of the namespace
	Name            string            // or its generateName
	Labels          map[string]string
}

// SubjectOf is an object as an exception sees it. A Namespace is in itself, as it is for the API server.
func SubjectOf(o *object.Object, ns *corev1.Namespace) Subject {
	s := Subject{Kind: o.Kind.Kind, Namespace: o.Namespace, Name: o.Name}
	if o.Kind == corev1.SchemeGroupVersion.WithKind(namespaceKind) {
		s.Namespace = o.Name
	}
	if ns != nil {
		s.NamespaceLabels = ns.Labels
	}
	if m, err := meta.Accessor(o.API); err == nil {
		s.Labels = m.GetLabels()
	}
	return s
}

// namespaceKind has no namespace object to select.
const namespaceKind = "Namespace"

// Parse checks a document. A field that the kind does not have is an error: it might narrow the exception.
func Parse(fields map[string]any) (*Exception, error) {
	var doc v1alpha1.PolicyException
	if err := runtime.DefaultUnstructuredConverter.FromUnstructuredWithValidation(fields, &doc, true); err != nil {
		return nil, fmt.Errorf("read PolicyException: %w", err)
	}
	if doc.APIVersion != APIVersion || doc.Kind != Kind {
		return nil, fmt.Errorf("read PolicyException: it is a %s of %s, want %s of %s", doc.Kind, doc.APIVersion, Kind, APIVersion)
	}
	e := &Exception{Name: doc.Name, Spec: doc.Spec}
	if err := e.check(); err != nil {
		return nil, fmt.Errorf("PolicyException %s: %w", doc.Name, err)
	}
	return e, nil
}

func (e *Exception) check() error {
	s := &e.Spec
	switch {
	case e.Name == "":
		return errors.New("metadata.name is missing")
	case strings.TrimSpace(s.Owner) == "" || strings.TrimSpace(s.Reason) == "":
		return errors.New("spec.owner and spec.reason must be given")
	case s.Expires.IsZero():
		return errors.New("spec.expires must be given: a moment such as 2027-03-01T00:00:00Z")
	case len(s.Controls) == 0:
		return errors.New("spec.controls must name at least one control")
	case len(s.Namespaces) == 0 && s.NamespaceSelector == nil && len(s.Names) == 0 && s.Selector == nil:
		return errors.New("say which objects: give namespaces, namespaceSelector, names or selector")
	}
	var err error
	if s.NamespaceSelector != nil {
		if e.namespaces, err = metav1.LabelSelectorAsSelector(s.NamespaceSelector); err != nil {
			return fmt.Errorf("spec.namespaceSelector: %w", err)
		}
	}
	if s.Selector != nil {
		if e.selector, err = metav1.LabelSelectorAsSelector(s.Selector); err != nil {
			return fmt.Errorf("spec.selector: %w", err)
		}
	}
	for _, n := range s.Names {
		e.names = append(e.names, regexp.MustCompile(pattern(n))) // quoted: it compiles
	}
	return nil
}

// pattern is a name with * as a regular expression.
func pattern(name string) string {
	parts := strings.Split(name, "*")
	for i, p := range parts {
		parts[i] = regexp.QuoteMeta(p)
	}
	return "^" + strings.Join(parts, ".*") + "$"
}

// Expired reports whether nothing is excused any more.
func (e *Exception) Expired(now time.Time) bool { return !now.Before(e.Spec.Expires.Time) }

// Controls are those among all that the exception names. A name that no control has is an error.
func (e *Exception) Controls(all []*control.Control) ([]*control.Control, error) {
	picked, err := control.Select(all, e.Spec.Controls)
	if err != nil {
		return nil, fmt.Errorf("PolicyException %s: %w", e.Name, err)
	}
	return picked, nil
}

// Selects reports whether the exception is about an object, whenever it expires.
func (e *Exception) Selects(s Subject) bool {
	switch {
	case len(e.Spec.Namespaces) > 0 && !slices.Contains(e.Spec.Namespaces, s.Namespace),
		e.namespaces != nil && (s.Namespace == "" || s.Kind == namespaceKind || !e.namespaces.Matches(labels.Set(s.NamespaceLabels))),
		len(e.Spec.Kinds) > 0 && !slices.Contains(e.Spec.Kinds, s.Kind),
		e.selector != nil && !e.selector.Matches(labels.Set(s.Labels)),
		len(e.names) > 0 && !slices.ContainsFunc(e.names, func(r *regexp.Regexp) bool { return r.MatchString(s.Name) }):
		return false
	}
	return true
}

// Set is exceptions by the control that they excuse.
type Set struct {
	All       []*Exception
	byControl map[string][]*Exception
}

// NewSet finds which controls the exceptions name. What names a control that is not among all is in errs, and excuses nothing.
func NewSet(exceptions []*Exception, all []*control.Control) (set *Set, errs []error) {
	set = &Set{All: exceptions, byControl: map[string][]*Exception{}}
	for _, e := range exceptions {
		controls, err := e.Controls(all)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		for _, c := range controls {
			set.byControl[c.ID] = append(set.byControl[c.ID], e)
		}
	}
	return set, errs
}

// Of are the exceptions that name a control. A nil set has none.
func (s *Set) Of(control string) []*Exception {
	if s == nil {
		return nil
	}
	return s.byControl[control]
}

// Excuse is the exception by which an object may fail a control now; nil when there is none.
func (s *Set) Excuse(control string, o Subject, now time.Time) *Exception {
	for _, e := range s.Of(control) {
		if !e.Expired(now) && e.Selects(o) {
			return e
		}
	}
	return nil
}
