// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"errors"
	"fmt"
	"io"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/vigie-io/vigie/internal/policy"
)

// Document is one YAML document of a file or of a request.
type Document struct {
	Source string // path of the file, or what the request calls itself
	Line   int    // where it begins, from 1
	Text   string

	Kind, Name string
	// KindAt and NameAt are their places, "FILE:LINE:COLUMN", for errors.
	KindAt, NameAt string

	// root is what the YAML parser made of it; nil once it was used.
	root *yaml.Node
}

// Padded is the document with its lines where they are in the file, so that a parser's errors name the right ones.
func (d *Document) Padded() []byte {
	return []byte(strings.Repeat("\n", d.Line-1) + d.Text)
}

// Policy is the WorkloadPolicy in it.
func (d *Document) Policy() (*policy.Policy, error) {
	return policy.ParseNode(d.Source, d.Line, d.Text, d.root)
}

// Documents takes a text apart and looks at kind and name of each document. The error lists all problems.
func Documents(source, text string) ([]Document, error) {
	var errs []error
	parts := policy.Split(text)
	docs := make([]Document, len(parts))
	for i, part := range parts {
		docs[i] = Document{Source: source, Line: part.Line, Text: part.Text}
		if err := docs[i].look(); err != nil {
			errs = append(errs, err)
		}
	}
	return docs, errors.Join(errs...)
}

// look reads what the document says of itself.
func (d *Document) look() error {
	decoder := yaml.NewDecoder(strings.NewReader(d.Text))
	var doc, rest yaml.Node
	if err := decoder.Decode(&doc); err != nil && !errors.Is(err, io.EOF) {
		return d.yamlError(err)
	}
	switch err := decoder.Decode(&rest); {
	case err == nil: // split at other line breaks than those that this package knows
		return fmt.Errorf("%s: is a document that does not begin with a line of its own: end lines with a line feed", d.at(&rest))
	case !errors.Is(err, io.EOF):
		return d.yamlError(err)
	}
	root := &doc
	if doc.Kind == yaml.DocumentNode && len(doc.Content) > 0 {
		root = doc.Content[0]
	}
	d.root = root
	if root.Kind != yaml.MappingNode {
		return fmt.Errorf("%s: want a policy, a mapping with apiVersion, kind, metadata and spec", d.at(root))
	}
	kind := child(root, "kind")
	if kind == nil || kind.Kind != yaml.ScalarNode || kind.Value == "" {
		return fmt.Errorf("%s: kind: is missing: add `kind: WorkloadPolicy`", d.at(root))
	}
	d.Kind, d.KindAt = kind.Value, d.at(kind)
	d.NameAt = d.KindAt
	if meta := child(root, "metadata"); meta != nil && meta.Kind == yaml.MappingNode {
		if name := child(meta, "name"); name != nil && name.Kind == yaml.ScalarNode {
			d.Name, d.NameAt = name.Value, d.at(name)
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

// at is the place of a node, "FILE:LINE:COLUMN".
func (d *Document) at(n *yaml.Node) string {
	return fmt.Sprintf("%s:%d:%d", d.Source, d.Line-1+max(n.Line, 1), max(n.Column, 1))
}

// yamlError gives the parser's error the form of the others. The parser leaves out line 1.
func (d *Document) yamlError(err error) error {
	text := strings.TrimPrefix(err.Error(), "yaml: ")
	line := 1
	if got, _ := fmt.Sscanf(text, "line %d:", &line); got == 1 {
		_, text, _ = strings.Cut(text, ": ")
	}
	return fmt.Errorf("%s:%d:1: not YAML: %s", d.Source, d.Line-1+line, text)
}
