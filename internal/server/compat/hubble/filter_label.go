// SPDX-License-Identifier: Apache-2.0

package hubble

import (
	"strings"

	"cel.dev/cel-go/cel"
	fl "github.com/cilium/cilium/api/v1/flow"
	k8s "k8s.io/apimachinery/pkg/labels"

	"github.com/vigie-io/vigie/internal/server/compat"
)

// selectors adds the condition that one of the label selectors selects the labels.
func (b *builder) selectors(field string, values []string, of func(*fl.Flow) []string) {
	each(b, field, values, parseSelector, func(x *fl.Flow, s k8s.Selector) bool { return s.Matches(labelSet(of(x))) })
}

// parseSelector reads a selector of Kubernetes whose keys may have a source: "k8s:app in (web, api), reserved:host". A key
// without one has the source "any". Kubernetes' parser takes no colon in a key, so that the source goes before a dot.
func parseSelector(s string) (k8s.Selector, error) {
	var out strings.Builder
	depth := 0
	atKey := true
	for i := 0; i < len(s); {
		c := s[i]
		if atKey && c != ' ' && c != '\t' && c != '!' && c != ',' {
			n := strings.IndexAny(s[i:], " \t=!,<>(")
			if n < 0 {
				n = len(s) - i
			}
			source, key, found := strings.Cut(s[i:i+n], ":")
			if !found {
				source, key = "any", source
			}
			out.WriteString(source + "." + key)
			i, atKey = i+n, false
			if n > 0 {
				continue
			}
			c = s[i]
		}
		switch c {
		case '(':
			depth++
		case ')':
			depth--
		case ',':
			atKey = depth == 0
		}
		out.WriteByte(c)
		i++
	}
	return k8s.Parse(out.String())
}

// labelSet are labels as parseSelector's selectors ask for them: by SOURCE.KEY.
type labelSet []string

// Lookup implements labels.Labels.
func (l labelSet) Lookup(asked string) (value string, exists bool) {
	source, key, _ := strings.Cut(asked, ".")
	for _, label := range l {
		name, v, _ := strings.Cut(label, "=")
		s, k, found := strings.Cut(name, ":")
		if !found {
			s, k = "", name
		}
		if k == key && (source == "any" || source == s) {
			return v, true
		}
	}
	return "", false
}

// Has implements labels.Labels.
func (l labelSet) Has(asked string) bool {
	_, exists := l.Lookup(asked)
	return exists
}

// Get implements labels.Labels.
func (l labelSet) Get(asked string) string {
	value, _ := l.Lookup(asked)
	return value
}

// expressions adds the condition that one of the CEL expressions over `_flow` is true.
func (b *builder) expressions(sources []string) {
	const variable = "_flow"
	compile := func(source string) (*compat.Expression, error) {
		b.extensions = b.extensions || strings.Contains(source, "extensions")
		// The names are those that Hubble's expressions have: its container, its variable.
		return compat.CompileExpression(source, cel.Container("flow"), cel.Types(&fl.Flow{}), cel.Variable(variable, cel.ObjectType("flow.Flow")))
	}
	each(b, "experimental.cel_expression", sources, compile, func(x *fl.Flow, want *compat.Expression) bool {
		return want.Holds(map[string]any{variable: x})
	})
}
