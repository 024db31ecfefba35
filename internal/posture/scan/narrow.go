// SPDX-License-Identifier: Apache-2.0

package scan

import (
	"slices"
	"strings"

	"github.com/vigie-io/vigie/internal/posture/control"
	"github.com/vigie-io/vigie/internal/posture/object"
)

// anything is the list of what cannot be narrowed.
const anything = ""

// narrows are the lists that an object is in.
func narrows(r control.Related, o *object.Object, asPod bool) []string {
	switch {
	case r.Labels != "": // found by each of its labels, and by who selects none
		if !asPod {
			return []string{anything}
		}
		return append(pairs(podLabels(o)), anything)
	case r.Selectors != "": // found by one pair that it selects: an object without that pair is not selected
		selected := pairs(o.Texts(strings.Split(r.Selectors, ".")))
		if len(selected) == 0 {
			return []string{anything}
		}
		return selected[:1]
	case r.Name != "":
		return []string{o.Name}
	}
	return []string{anything}
}

// wanted are the lists that a control sees from an object.
func wanted(r control.Related, o *object.Object) []string {
	switch {
	case r.Labels != "":
		if selected := pairs(o.Texts(strings.Split(r.Labels, "."))); len(selected) > 0 {
			return selected[:1]
		}
	case r.Selectors != "":
		return append(pairs(podLabels(o)), anything)
	case r.Name != "":
		return []string{o.Text(strings.Split(r.Name, "."))}
	}
	return []string{anything}
}

// podLabels are those that an object's pods have.
func podLabels(o *object.Object) map[string]string {
	path := podPath(o)
	if path == nil {
		return nil
	}
	labels := o.Texts(append(slices.Clone(path[:len(path)-1]), "metadata", "labels"))
	if labels == nil {
		labels = map[string]string{}
	}
	return labels
}

// pairs are labels as key=value, in order.
func pairs(labels map[string]string) []string {
	out := make([]string, 0, len(labels))
	for k, v := range labels {
		out = append(out, k+"="+v)
	}
	slices.Sort(out)
	return out
}
