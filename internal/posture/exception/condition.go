// SPDX-License-Identifier: Apache-2.0

package exception

import (
	"slices"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/vigie-io/vigie/internal/posture/celtext"
)

// Moments is CEL for when a request is made. ValidatingAdmissionPolicies have no now(), but the API server writes the time
// into the object before it validates: of what is created into creationTimestamp, of what is changed into the managedFields of
// who changes it. A client can set neither to the past: the first is overwritten, and the second has an entry of the request's
// own. An object without managedFields is as old as its creation; then the end of an exception is seen when the policies are
// compiled next.
const Moments = "object == null ? [] : [timestamp(object.metadata.creationTimestamp)] + " +
	"object.metadata.?managedFields.orValue([]).filter(m, has(m.time)).map(m, timestamp(m.time))"

// Condition is the exception as CEL over a request. moments is the name of a variable with the value of Moments.
func (e *Exception) Condition(moments string) string {
	s := &e.Spec
	all := []string{moments + ".all(t, t < timestamp(" + celtext.Quote(s.Expires.UTC().Format(time.RFC3339)) + "))"}
	if len(s.Namespaces) > 0 {
		all = append(all, "request.?namespace.orValue('') in "+celtext.List(s.Namespaces))
	}
	if s.NamespaceSelector != nil {
		all = append(all, "request.?namespace.orValue('') != '' && request.requestKind.kind != 'Namespace'")
		all = append(all, selectorCEL("namespaceObject.metadata.?labels", s.NamespaceSelector)...)
	}
	if len(s.Kinds) > 0 {
		all = append(all, "request.requestKind.kind in "+celtext.List(s.Kinds))
	}
	if s.Selector != nil {
		all = append(all, selectorCEL("object.metadata.?labels", s.Selector)...)
	}
	if len(s.Names) > 0 {
		var any []string
		for _, n := range s.Names {
			any = append(any, "object.metadata.?name.orValue(object.metadata.?generateName.orValue('')).matches("+celtext.Quote(pattern(n))+")")
		}
		all = append(all, "("+strings.Join(any, " || ")+")")
	}
	return strings.Join(all, " && ")
}

// selectorCEL is a label selector over an optional map.
func selectorCEL(labels string, s *metav1.LabelSelector) []string {
	value := func(key string) string { return labels + "[?" + celtext.Quote(key) + "]" }
	var all []string
	keys := make([]string, 0, len(s.MatchLabels))
	for k := range s.MatchLabels {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	for _, k := range keys {
		all = append(all, value(k)+" == optional.of("+celtext.Quote(s.MatchLabels[k])+")")
	}
	for _, r := range s.MatchExpressions {
		v := value(r.Key)
		switch r.Operator {
		case metav1.LabelSelectorOpIn:
			all = append(all, "("+v+".hasValue() && "+v+".value() in "+celtext.List(r.Values)+")")
		case metav1.LabelSelectorOpNotIn:
			all = append(all, "!("+v+".hasValue() && "+v+".value() in "+celtext.List(r.Values)+")")
		case metav1.LabelSelectorOpExists:
			all = append(all, v+".hasValue()")
		case metav1.LabelSelectorOpDoesNotExist:
			all = append(all, "!"+v+".hasValue()")
		default:
			all = append(all, "false") // cannot be: check refused it
		}
	}
	return all
}
