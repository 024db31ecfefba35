// SPDX-License-Identifier: Apache-2.0

package migrate

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// patterns turns Kyverno's overlay patterns into CEL. The rules are those of its documentation, "Validate Rules: patterns".
type patterns struct {
	depth int // of lists, for the names of their elements
}

type untranslatable struct{ what string }

// Error implements error.
func (u untranslatable) Error() string { return u.what }

func cannot(format string, args ...any) error { return untranslatable{fmt.Sprintf(format, args...)} }

// value is CEL that is true when what stands at expr matches a pattern.
func (p *patterns) value(pattern any, expr string) (string, error) {
	switch v := pattern.(type) {
	case map[string]any:
		return p.object(v, expr)
	case []any:
		return p.list(v, expr)
	case bool:
		return expr + " == " + strconv.FormatBool(v), nil
	case float64:
		return numeric(expr, "==", strconv.FormatFloat(v, 'f', -1, 64)), nil
	case nil:
		return expr + " == null", nil
	case string:
		return scalar(v, expr)
	}
	return "", cannot("a pattern of type %T", pattern)
}

// object: keys with a condition come first, because what stands beside them counts only when they match.
func (p *patterns) object(m map[string]any, expr string) (string, error) {
	var conditions, tests []string
	for _, key := range slices.Sorted(maps.Keys(m)) {
		anchor, name := anchorOf(key)
		if strings.ContainsAny(name, "*?") {
			return "", cannot("a wildcard in the key %q", key)
		}
		if hasVariable(m[key]) {
			return "", cannot("a variable in the pattern of %q", key)
		}
		access, has := field(expr, name)
		if anchor == "X" {
			tests = append(tests, "!("+has+")")
			continue
		}
		if anchor == "^" {
			test, err := p.exists(m[key], access)
			if err != nil {
				return "", err
			}
			tests = append(tests, has+" && "+test)
			continue
		}
		if m[key] == nil && anchor == "" { // absent, or null
			tests = append(tests, "(!("+has+") || "+access+" == null)")
			continue
		}
		inner, err := p.value(m[key], access)
		if err != nil {
			return "", err
		}
		switch anchor {
		case "":
			tests = append(tests, "("+has+" && "+inner+")")
		case "=":
			tests = append(tests, "(!("+has+") || "+inner+")")
		case "(":
			conditions = append(conditions, "("+has+" && "+inner+")")
		default:
			return "", cannot("the anchor of %q", key)
		}
	}
	all := "true"
	if len(tests) > 0 {
		all = strings.Join(tests, " && ")
	}
	if len(conditions) > 0 {
		return "(!(" + strings.Join(conditions, " && ") + ") || (" + all + "))", nil
	}
	if len(tests) > 1 {
		return "(" + all + ")", nil
	}
	return all, nil
}

// anchorOf splits "=(name)".
func anchorOf(key string) (anchor, name string) {
	open := strings.IndexByte(key, '(')
	if open < 0 || !strings.HasSuffix(key, ")") || open > 1 {
		return "", key
	}
	name = key[open+1 : len(key)-1]
	if open == 0 {
		return "(", name
	}
	return key[:1], name
}

// list: each element must match the one pattern that there is.
func (p *patterns) list(list []any, expr string) (string, error) {
	if len(list) != 1 {
		return "", cannot("a list of %d patterns", len(list))
	}
	return p.elements("all", list[0], expr)
}

func (p *patterns) exists(pattern any, expr string) (string, error) {
	list, ok := pattern.([]any)
	if !ok || len(list) != 1 {
		return "", cannot("an existence anchor that is not on a list of one pattern")
	}
	return p.elements("exists", list[0], expr)
}

// elements applies a macro of CEL to a list: what its elements must match.
func (p *patterns) elements(macro string, pattern any, expr string) (string, error) {
	p.depth++
	defer func() { p.depth-- }()
	element := "e" + strconv.Itoa(p.depth)
	inner, err := p.value(pattern, element)
	if err != nil {
		return "", err
	}
	return expr + "." + macro + "(" + element + ", " + inner + ")", nil
}

func hasVariable(v any) bool {
	switch v := v.(type) {
	case string:
		return strings.Contains(v, "{{") || strings.Contains(v, "$(")
	}
	return false
}

// scalar: alternatives by |, parts that must all hold by &, operators, ranges and wildcards.
func scalar(pattern, expr string) (string, error) {
	var alternatives []string
	for alternative := range strings.SplitSeq(pattern, "|") {
		var parts []string
		for part := range strings.SplitSeq(alternative, "&") {
			test, err := term(strings.TrimSpace(part), expr)
			if err != nil {
				return "", err
			}
			parts = append(parts, test)
		}
		alternatives = append(alternatives, strings.Join(parts, " && "))
	}
	if len(alternatives) == 1 && !strings.Contains(alternatives[0], " && ") {
		return alternatives[0], nil
	}
	return "(" + strings.Join(alternatives, " || ") + ")", nil
}

func term(pattern, expr string) (string, error) {
	for _, op := range []struct{ written, cel string }{{">=", ">="}, {"<=", "<="}, {">", ">"}, {"<", "<"}} {
		if rest, ok := strings.CutPrefix(pattern, op.written); ok {
			return ordered(expr, op.cel, strings.TrimSpace(rest))
		}
	}
	if rest, ok := strings.CutPrefix(pattern, "!"); ok {
		test, err := term(strings.TrimSpace(rest), expr)
		return "!(" + test + ")", err
	}
	switch pattern {
	case "*":
		return expr + " != null", nil
	case "?*":
		return expr + " != null && string(" + expr + ") != ''", nil
	case "true", "false":
		return "string(" + expr + ") == " + quote(pattern), nil
	}
	if strings.ContainsAny(pattern, "*?") {
		return "string(" + expr + ").matches(" + quote(wildcard(pattern)) + ")", nil
	}
	if from, to, ok := strings.Cut(pattern, "-"); ok {
		_, errFrom := strconv.ParseFloat(from, 64)
		_, errTo := strconv.ParseFloat(to, 64)
		if errFrom == nil && errTo == nil {
			return "(" + numeric(expr, ">=", from) + " && " + numeric(expr, "<=", to) + ")", nil
		}
	}
	return "string(" + expr + ") == " + quote(pattern), nil
}

// ordered compares numbers, and quantities as in 100Mi.
func ordered(expr, op, bound string) (string, error) {
	if _, err := strconv.ParseFloat(bound, 64); err == nil {
		return numeric(expr, op, bound), nil
	}
	if !isQuantity(bound) {
		return "", cannot("a comparison with %q", bound)
	}
	return "quantity(string(" + expr + ")).compareTo(quantity(" + quote(bound) + ")) " + op + " 0", nil
}

// numeric compares as a quantity, because a number may stand there as one: 1 or "1".
func numeric(expr, op, bound string) string {
	return "quantity(string(" + expr + ")).compareTo(quantity(" + quote(bound) + ")) " + op + " 0"
}

func isQuantity(s string) bool {
	digits := strings.TrimLeft(s, "0123456789.")
	if digits == s {
		return false
	}
	return slices.Contains([]string{"", "m", "k", "M", "G", "T", "P", "E", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"}, digits)
}
