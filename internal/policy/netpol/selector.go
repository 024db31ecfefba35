// SPDX-License-Identifier: Apache-2.0

package netpol

import (
	"slices"
	"strings"

	"github.com/vigie-io/vigie/internal/model"
)

// LabelSelector is what labels must be: all of it. An empty one selects everything.
type LabelSelector []Requirement

// Requirement is about one label.
type Requirement struct {
	Key    string
	Op     Op
	Values []string
}

// Op is what a Requirement asks.
type Op string

// What can be asked. NotIn and DoesNotExist hold of what has no such label.
const (
	In           Op = "In"
	NotIn        Op = "NotIn"
	Exists       Op = "Exists"
	DoesNotExist Op = "DoesNotExist"
)

// Matches reports whether labels are what is asked.
func (s LabelSelector) Matches(labels map[string]string) bool {
	for i := range s {
		if !s[i].holds(labels) {
			return false
		}
	}
	return true
}

func (r *Requirement) holds(labels map[string]string) bool {
	value, has := labels[r.Key]
	switch r.Op {
	case In:
		return has && slices.Contains(r.Values, value)
	case NotIn:
		return !has || !slices.Contains(r.Values, value)
	case Exists:
		return has
	}
	return !has
}

// String is the selector in words, the same for the same selector: "app in (db), !canary"; "*" for everything.
func (s LabelSelector) String() string {
	if len(s) == 0 {
		return "*"
	}
	parts := make([]string, len(s))
	for i, r := range s {
		switch r.Op {
		case Exists:
			parts[i] = r.Key
		case DoesNotExist:
			parts[i] = "!" + r.Key
		default:
			parts[i] = r.Key + " " + strings.ToLower(string(r.Op)) + " (" + strings.Join(r.Values, ", ") + ")"
		}
	}
	slices.Sort(parts)
	return strings.Join(parts, ", ")
}

// namespaceName is the label that every namespace has with its own name.
const namespaceName = "kubernetes.io/metadata.name"

// Selects reports whether a pod is selected. ns is its namespace; nil when that is not known, and then it has its name
// alone. A pod in its node's network never is.
func (s *PodSelector) Selects(p *model.Pod, ns *model.ClusterNamespace) bool {
	if p.HostNetwork {
		return false
	}
	return s.selects(p.Namespace, labelsOf(p.Namespace, ns), p.Labels)
}

func (s *PodSelector) selects(namespace string, namespaceLabels, labels map[string]string) bool {
	if s.Namespace != "" && s.Namespace != namespace {
		return false
	}
	return s.Namespaces.Matches(namespaceLabels) && s.Pods.Matches(labels)
}

func labelsOf(name string, ns *model.ClusterNamespace) map[string]string {
	if ns == nil || ns.Labels[namespaceName] == "" {
		labels := map[string]string{namespaceName: name}
		if ns != nil {
			for k, v := range ns.Labels {
				labels[k] = v
			}
		}
		return labels
	}
	return ns.Labels
}

// String is the selector in words, the same for the same selector.
func (s *PodSelector) String() string {
	return "pods " + s.Pods.String() + " of namespaces " + s.Namespace + " " + s.Namespaces.String()
}

// Selects reports whether a policy is about a pod.
func (c *Cluster) Selects(p *Policy, pod *model.Pod) bool {
	return p.Subject.Selects(pod, c.namespace(pod.Namespace))
}
