// SPDX-License-Identifier: Apache-2.0

package migrate

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// conditions turns the conditions of a deny rule, or preconditions, into CEL that is true when they hold. Keys are JMESPath in
// {{ }}; a plain path in request.object, with a default behind ||, is what can be taken over.
func conditions(v any) (string, error) {
	switch c := v.(type) {
	case []any: // as all
		return joined(c, " && ")
	case map[string]any:
		var parts []string
		for _, key := range slices.Sorted(maps.Keys(c)) {
			list, ok := c[key].([]any)
			joint, known := map[string]string{"any": " || ", "all": " && "}[key]
			if !ok || !known {
				return "", cannot("conditions under %q", key)
			}
			test, err := joined(list, joint)
			if err != nil {
				return "", err
			}
			parts = append(parts, test)
		}
		if len(parts) > 0 {
			return strings.Join(parts, " && "), nil
		}
	}
	return "", cannot("conditions that are no list")
}

func joined(list []any, joint string) (string, error) {
	var parts []string
	for _, item := range list {
		c, ok := item.(map[string]any)
		if !ok {
			return "", cannot("a condition that is no object")
		}
		test, err := condition(c)
		if err != nil {
			return "", err
		}
		parts = append(parts, test)
	}
	if len(parts) == 0 {
		return "", cannot("an empty list of conditions")
	}
	return "(" + strings.Join(parts, joint) + ")", nil
}

func condition(c map[string]any) (string, error) {
	key, ok := c["key"].(string)
	if !ok {
		return "", cannot("a key that is no string")
	}
	expr, list, err := jmesPath(key)
	if err != nil {
		return "", err
	}
	if hasVariable(c["value"]) {
		return "", cannot("a variable in the value of a condition")
	}
	operator, _ := c["operator"].(string)
	switch strings.ToLower(operator) {
	case "equals", "equal":
		return equals(expr, list, c["value"], "==")
	case "notequals", "notequal":
		return equals(expr, list, c["value"], "!=")
	case "in", "anyin":
		return member(expr, list, c["value"], "exists", "")
	case "allin":
		return member(expr, list, c["value"], "all", "")
	case "notin", "allnotin":
		return member(expr, list, c["value"], "all", "!")
	case "anynotin":
		return member(expr, list, c["value"], "exists", "!")
	case "greaterthan", "greaterthanorequals", "lessthan", "lessthanorequals":
		op := map[string]string{"greaterthan": ">", "greaterthanorequals": ">=", "lessthan": "<", "lessthanorequals": "<="}[strings.ToLower(operator)]
		if list {
			return "", cannot("%s on a list", operator)
		}
		return ordered(expr, op, fmt.Sprint(c["value"]))
	}
	return "", cannot("the operator %q", operator)
}

func equals(expr string, list bool, value any, op string) (string, error) {
	literal, err := literalOf(value)
	if err != nil {
		return "", err
	}
	if _, isList := value.([]any); list != isList {
		return "", cannot("a list compared with a single value")
	}
	if text, ok := value.(string); ok && strings.ContainsAny(text, "*?") {
		test := "string(" + expr + ").matches(" + quote(wildcard(text)) + ")"
		if op == "!=" {
			test = "!" + test
		}
		return test, nil
	}
	return expr + " " + op + " " + literal, nil
}

// member tests the elements of a list, or a single value, against values that may have wildcards.
func member(expr string, list bool, value any, quantor, not string) (string, error) {
	values, ok := value.([]any)
	if !ok {
		values = []any{value}
	}
	names := make([]string, len(values))
	for i, v := range values {
		text, ok := v.(string)
		if !ok {
			return "", cannot("a value of type %T in a list", v)
		}
		names[i] = text
	}
	if !list {
		return not + "(" + strings.Join(oneOf("string("+expr+")", names), "") + ")", nil
	}
	return expr + "." + quantor + "(k, " + not + "(" + strings.Join(oneOf("string(k)", names), "") + "))", nil
}

func literalOf(v any) (string, error) {
	switch v := v.(type) {
	case string:
		return quote(v), nil
	case bool:
		return strconv.FormatBool(v), nil
	case float64:
		return strconv.FormatFloat(v, 'f', -1, 64), nil
	case []any:
		var parts []string
		for _, item := range v {
			text, err := literalOf(item)
			if err != nil {
				return "", err
			}
			parts = append(parts, text)
		}
		return "[" + strings.Join(parts, ", ") + "]", nil
	}
	return "", cannot("a value of type %T", v)
}

var (
	reference = regexp.MustCompile(`^\{\{\s*(.*?)\s*\}\}$`)
	fallback  = regexp.MustCompile("^(.*?)\\s*\\|\\|\\s*(?:'([^']*)'|`([^`]*)`)$")
	segment   = regexp.MustCompile(`^(?:\.?([A-Za-z_][A-Za-z0-9_]*)|\.?"([^"]+)"|(\[\]|\[\*\]))`)
)

// jmesPath turns a reference into CEL; list tells that its value is a list. What is not there is the default, or empty.
func jmesPath(key string) (expr string, list bool, err error) {
	m := reference.FindStringSubmatch(strings.TrimSpace(key))
	if m == nil {
		return "", false, cannot("the key %q: want {{ a path }}", key)
	}
	path, otherwise := m[1], "''"
	if f := fallback.FindStringSubmatch(path); f != nil {
		path, otherwise = f[1], quote(f[2])
		if f[3] != "" {
			if otherwise = f[3]; !slices.Contains([]string{"true", "false", "[]", "{}"}, otherwise) {
				if _, err := strconv.ParseFloat(otherwise, 64); err != nil {
					return "", false, cannot("the default %q", f[3])
				}
			}
		}
	}
	switch path {
	case "request.operation":
		return "request.operation", false, nil
	case "request.namespace", "request.object.metadata.namespace":
		return "request.namespace", false, nil
	case "request.userInfo.username":
		return "request.userInfo.username", false, nil
	}
	root := "object"
	rest, ok := strings.CutPrefix(path, "request.object.")
	if !ok {
		if rest, ok = strings.CutPrefix(path, "request.oldObject."); !ok {
			return "", false, cannot("the path %q", path)
		}
		root = "oldObject"
	}
	return followPath(root, rest, otherwise)
}

// followPath makes optional selections of a path, and a list of one with [].
func followPath(expr, rest, otherwise string) (string, bool, error) {
	if before, after, ok := cutList(rest); ok {
		inner := "k"
		if after != "" {
			var err error
			var nested bool
			if inner, nested, err = followPath("k", after, "''"); err != nil || nested {
				return "", false, cannot("the path %q", rest)
			}
		}
		list, _, err := followPath(expr, before, "[]")
		if err != nil {
			return "", false, err
		}
		return list + ".map(k, " + inner + ")", true, nil
	}
	for rest != "" {
		m := segment.FindStringSubmatch(rest)
		if m == nil || m[3] != "" {
			return "", false, cannot("the path %q", rest)
		}
		switch {
		case m[1] != "" && !reserved(m[1]):
			expr += ".?" + m[1]
		default:
			expr += "[?" + quote(m[1]+m[2]) + "]"
		}
		rest = rest[len(m[0]):]
	}
	return expr + ".orValue(" + otherwise + ")", otherwise == "[]", nil
}

func cutList(path string) (before, after string, ok bool) {
	for _, mark := range []string{"[]", "[*]"} {
		if before, after, ok = strings.Cut(path, mark); ok {
			return before, strings.TrimPrefix(after, "."), true
		}
	}
	return path, "", false
}

func sorted[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
