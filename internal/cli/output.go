// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"bytes"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"go.yaml.in/yaml/v3"

	"github.com/vigie-io/vigie/internal/cli/term"
)

// format is how a command prints: the value of -o.
type format string

const (
	formatTable format = "table"
	formatWide  format = "wide"
	formatJSON  format = "json"
	formatYAML  format = "yaml"
)

func formats() []string {
	return []string{string(formatTable), string(formatWide), string(formatJSON), string(formatYAML)}
}

// Set implements pflag.Value.
func (f *format) Set(s string) error {
	if !slices.Contains(formats(), s) {
		return fmt.Errorf("the formats are %s", strings.Join(formats(), ", "))
	}
	*f = format(s)
	return nil
}

// String implements pflag.Value.
func (f *format) String() string { return string(*f) }

// Type implements pflag.Value.
func (f *format) Type() string { return strings.Join(formats(), "|") }

func (f *format) flag(cmd *cobra.Command) {
	*f = formatTable
	cmd.Flags().VarP(f, "output", "o", "how to print")
	// The flag exists, so that registering cannot fail.
	_ = cmd.RegisterFlagCompletionFunc("output", cobra.FixedCompletions(formats(), cobra.ShellCompDirectiveNoFileComp))
}

// writeJSON writes one line of JSON.
func writeJSON(w io.Writer, line []byte) error {
	_, err := w.Write(append(term.JSON(bytes.TrimRight(line, "\n")), '\n'))
	return err
}

// writeYAML writes a JSON text as one YAML document, its fields in the same order.
func writeYAML(w io.Writer, json []byte) error {
	var node yaml.Node // JSON is YAML in flow style
	if err := yaml.Unmarshal(json, &node); err != nil {
		return fmt.Errorf("turn json into yaml: %w", err)
	}
	blockStyle(&node)
	var b bytes.Buffer
	b.WriteString("---\n")
	enc := yaml.NewEncoder(&b)
	enc.SetIndent(2)
	if err := enc.Encode(&node); err != nil {
		return fmt.Errorf("write yaml: %w", err)
	}
	_, err := w.Write(term.YAML(b.Bytes()))
	return err
}

func blockStyle(n *yaml.Node) {
	switch {
	case n.Kind != yaml.ScalarNode:
		n.Style = 0
	case n.Tag == "!!str" && plainASCII(n.Value):
		n.Style = 0 // quoted by the encoder only where it must
	}
	for _, c := range n.Content {
		blockStyle(c)
	}
}

// plainASCII keeps all else in double quotes, where it stays escaped.
func plainASCII(s string) bool {
	return strings.IndexFunc(s, func(r rune) bool { return r < ' ' || r > '~' }) < 0
}
