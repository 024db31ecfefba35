// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/spf13/pflag"
	"go.yaml.in/yaml/v3"
)

// notInFile are flags that a configuration file cannot set.
var notInFile = []string{"config", "help"}

// applyConfig sets the flags that the file at path names and the command line did not. It reads the
// whole file before it returns: the error lists all mistakes, each with file, line and field.
func applyConfig(path string, flags *pflag.FlagSet) error {
	data, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("read configuration: %w", err)
	}
	fields, err := configFields(path, data)
	if err != nil {
		return err
	}
	var errs []error
	seen := make(map[string]int)
	for i := 0; i < len(fields); i += 2 {
		key, value := fields[i], fields[i+1]
		at := fmt.Sprintf("%s:%d: ", path, key.Line)
		flag := flags.Lookup(key.Value)
		switch {
		case flag == nil || slices.Contains(notInFile, key.Value):
			errs = append(errs, fmt.Errorf("%sunknown field %q%s", at, key.Value, knownFields(key.Value, flags)))
			continue
		case seen[key.Value] != 0:
			errs = append(errs, fmt.Errorf("%sfield %q was given on line %d already: remove one", at, key.Value, seen[key.Value]))
			continue
		}
		seen[key.Value] = key.Line
		text, err := flagText(flag.Value.Type(), value)
		if err != nil {
			errs = append(errs, fmt.Errorf("%sfield %q: %w", at, key.Value, err))
			continue
		}
		if flag.Changed { // the command line wins, after the file's value was found to be well formed
			continue
		}
		if err := flag.Value.Set(text); err != nil {
			errs = append(errs, fmt.Errorf("%sfield %q: %w", at, key.Value, err))
		}
	}
	return errors.Join(errs...)
}

// configFields returns the keys and values of the one mapping in a file, in turn.
func configFields(path string, data []byte) ([]*yaml.Node, error) {
	dec := yaml.NewDecoder(bytes.NewReader(data))
	var doc yaml.Node
	switch err := dec.Decode(&doc); {
	case errors.Is(err, io.EOF):
		return nil, nil // an empty file says nothing
	case err != nil:
		return nil, syntaxError(path, err)
	}
	var more yaml.Node
	if err := dec.Decode(&more); !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("%s: holds more than one YAML document: keep one", path)
	}
	root := doc.Content[0]
	if root.Kind == yaml.ScalarNode && root.Tag == "!!null" {
		return nil, nil
	}
	if root.Kind != yaml.MappingNode {
		return nil, fmt.Errorf("%s:%d: want lines of `name: value`, with the names of the flags of `vigie run`", path, root.Line)
	}
	return root.Content, nil
}

// syntaxError gives the parser's error the form of the others. The parser leaves out line 1.
func syntaxError(path string, err error) error {
	text := strings.TrimPrefix(err.Error(), "yaml: ")
	line := 1
	if n, _ := fmt.Sscanf(text, "line %d:", &line); n == 1 {
		_, text, _ = strings.Cut(text, ": ")
	}
	return fmt.Errorf("%s:%d: not YAML: %s", path, line, text)
}

// flagText is a YAML value in the form in which the flag takes it. Errors say what is wanted.
func flagText(kind string, n *yaml.Node) (string, error) {
	if n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	if kind == "strings" || kind == "stringSlice" {
		if n.Kind == yaml.ScalarNode && n.Tag == "!!str" {
			return n.Value, nil
		}
		if n.Kind != yaml.SequenceNode {
			return "", fmt.Errorf("want a list of strings, got %s", kindOf(n))
		}
		var items []string
		for _, item := range n.Content {
			if item.Kind != yaml.ScalarNode || item.Tag != "!!str" {
				return "", fmt.Errorf("want a list of strings, got %s in it", kindOf(item))
			}
			items = append(items, item.Value)
		}
		return strings.Join(items, ","), nil
	}
	want, tags := "a string", []string{"!!str"}
	switch kind {
	case "bool":
		want, tags = "true or false", []string{"!!bool"}
	case "int":
		want, tags = "a whole number", []string{"!!int"}
	case "float64":
		want, tags = "a number", []string{"!!float", "!!int"}
	}
	if n.Kind != yaml.ScalarNode || !slices.Contains(tags, n.Tag) {
		return "", fmt.Errorf("want %s, got %s", want, kindOf(n))
	}
	return n.Value, nil
}

func kindOf(n *yaml.Node) string {
	switch {
	case n.Kind == yaml.MappingNode:
		return "a mapping"
	case n.Kind == yaml.SequenceNode:
		return "a list"
	case n.Tag == "!!null":
		return "nothing"
	case n.Tag == "!!int", n.Tag == "!!float":
		return "the number " + n.Value
	case n.Tag == "!!bool":
		return n.Value
	}
	return fmt.Sprintf("the string %q", n.Value)
}

// knownFields ends an error about an unknown field: with the near one, or with all.
func knownFields(field string, flags *pflag.FlagSet) string {
	var names []string
	flags.VisitAll(func(f *pflag.Flag) {
		if !slices.Contains(notInFile, f.Name) {
			names = append(names, f.Name)
		}
	})
	for _, n := range names {
		if strings.EqualFold(strings.NewReplacer("_", "-").Replace(field), n) || (len(field) > 3 && strings.HasPrefix(n, field)) ||
			oneEdit(field, n) {
			return fmt.Sprintf(": did you mean %q?", n)
		}
	}
	return ": known are " + strings.Join(names, ", ")
}

// oneEdit reports whether one inserted, removed, replaced or exchanged letter makes b of a.
func oneEdit(a, b string) bool {
	if len(a) > len(b) {
		a, b = b, a
	}
	i := 0
	for i < len(a) && a[i] == b[i] {
		i++
	}
	switch len(b) - len(a) {
	case 0:
		return i < len(a) && (a[i+1:] == b[i+1:] || i+1 < len(a) && a[i] == b[i+1] && a[i+1] == b[i] && a[i+2:] == b[i+2:])
	case 1:
		return a[i:] == b[i+1:]
	}
	return false
}
