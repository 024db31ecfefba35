// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"errors"
	"fmt"
	"strings"

	"go.yaml.in/yaml/v3"
)

// Document is one YAML document of a file or of a request.
type Document struct {
	Source string // path of the file, or what the request calls itself
	Line   int    // where it begins, from 1
	Text   string

	Kind, Name string
	// KindAt and NameAt are their places, "FILE:LINE:COLUMN", for errors.
	KindAt, NameAt string
}

// Padded is the document with its lines where they are in the file, so that a parser's errors name the right ones.
func (d *Document) Padded() []byte {
	return []byte(strings.Repeat("\n", d.Line-1) + d.Text)
}

// Documents takes a text apart and looks at kind and name of each document. The error lists all problems.
func Documents(source, text string) ([]Document, error) {
	var errs []error
	docs := splitDocuments(source, text)
	for i := range docs {
		if err := docs[i].look(); err != nil {
			errs = append(errs, err)
		}
	}
	return docs, errors.Join(errs...)
}

// splitDocuments cuts at the lines that can be nothing but a document's end: "---" and "..." in the first column (YAML
// 1.2, 9.1.4). Documents without content are left out.
func splitDocuments(source, text string) []Document {
	var docs []Document
	var b strings.Builder
	line, first, filled := 0, 1, false
	flush := func(next int) {
		if filled {
			docs = append(docs, Document{Source: source, Line: first, Text: b.String()})
		}
		b.Reset()
		first, filled = next, false
	}
	for l := range strings.Lines(text) {
		line++
		switch {
		case marker(l, "---"):
			flush(line)
			l = "   " + l[3:] // what stands behind it belongs to the document
		case marker(l, "..."):
			flush(line)
			l = "\n"
		}
		b.WriteString(l)
		if t := strings.TrimSpace(l); t != "" && t[0] != '#' {
			filled = true
		}
	}
	flush(line)
	return docs
}

func marker(line, mark string) bool {
	rest, ok := strings.CutPrefix(line, mark)
	return ok && (rest == "" || strings.ContainsRune(" \t\r\n", rune(rest[0])))
}

// look reads what the document says of itself.
func (d *Document) look() error {
	var doc yaml.Node
	if err := yaml.Unmarshal(d.Padded(), &doc); err != nil {
		return yamlError(d.Source, d.Line, err)
	}
	root := &doc
	if doc.Kind == yaml.DocumentNode && len(doc.Content) > 0 {
		root = doc.Content[0]
	}
	if root.Kind != yaml.MappingNode {
		return fmt.Errorf("%s:%d:%d: want a policy, a mapping with apiVersion, kind, metadata and spec", d.Source, max(root.Line, d.Line), max(root.Column, 1))
	}
	kind := child(root, "kind")
	if kind == nil || kind.Kind != yaml.ScalarNode || kind.Value == "" {
		return fmt.Errorf("%s:%d:%d: kind: is missing: add `kind: WorkloadPolicy`", d.Source, root.Line, root.Column)
	}
	d.Kind, d.KindAt = kind.Value, fmt.Sprintf("%s:%d:%d", d.Source, kind.Line, kind.Column)
	d.NameAt = d.KindAt
	if meta := child(root, "metadata"); meta != nil && meta.Kind == yaml.MappingNode {
		if name := child(meta, "name"); name != nil && name.Kind == yaml.ScalarNode {
			d.Name, d.NameAt = name.Value, fmt.Sprintf("%s:%d:%d", d.Source, name.Line, name.Column)
		}
		if space := child(meta, "namespace"); space != nil && strings.HasSuffix(d.Kind, "Namespaced") {
			d.Name = space.Value + "/" + d.Name
		}
	}
	return nil
}

func child(m *yaml.Node, key string) *yaml.Node {
	for i := 0; i+1 < len(m.Content); i += 2 {
		if m.Content[i].Value == key {
			return m.Content[i+1]
		}
	}
	return nil
}

// yamlError gives the parser's error the form of the others. The parser leaves out line 1.
func yamlError(source string, line int, err error) error {
	text := strings.TrimPrefix(err.Error(), "yaml: ")
	var n int
	if got, _ := fmt.Sscanf(text, "line %d:", &n); got == 1 {
		_, text, _ = strings.Cut(text, ": ")
		line = n
	}
	return fmt.Errorf("%s:%d:1: not YAML: %s", source, line, text)
}
