// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"connectrpc.com/connect"
	"github.com/spf13/cobra"
)

// maxPolicyText is how many bytes of policies an agent takes at once.
const maxPolicyText = 4<<20 - 1<<10

// policyFiles adds -f.
func policyFiles(cmd *cobra.Command, files *[]string) {
	cmd.Flags().StringArrayVarP(files, "file", "f", nil, "file, or directory whose *.yaml; can be given again; -: standard input")
	_ = cmd.MarkFlagFilename("file", "yaml", "yml") // fails only for a missing flag
	_ = cmd.MarkFlagRequired("file")
}

// policyText is the text of files as one, for an agent to take as a whole.
type policyText struct {
	text  string
	name  string // what errors of the agent call it
	parts []policyPart
}

// policyPart is a file in it.
type policyPart struct {
	source string
	first  int // line, from 1
}

// severalFiles is what errors call a text of more than one file, until place says which of them is meant.
const severalFiles = "these-files"

// readPolicies reads files of policies.
func readPolicies(env Env, names []string) (*policyText, error) {
	files, err := yamlFiles(names)
	if err != nil {
		return nil, fmt.Errorf("read policies: %w", err)
	}
	if len(files) == 0 {
		return nil, fmt.Errorf("there is no *.yaml in %s", strings.Join(names, ", "))
	}
	var b strings.Builder
	t := &policyText{name: severalFiles}
	lines := 0
	for i, file := range files {
		text, err := readPolicyFile(env, file)
		if err != nil {
			return nil, err
		}
		if i > 0 {
			text = "---\n" + text
			lines++
		}
		if !strings.HasSuffix(text, "\n") && len(files) > 1 {
			text += "\n"
		}
		b.WriteString(text)
		t.parts = append(t.parts, policyPart{sourceName(file), lines + 1})
		lines += strings.Count(text, "\n")
		if i > 0 {
			lines--
		}
	}
	if b.Len() > maxPolicyText {
		return nil, fmt.Errorf("%s: more than the 4 MiB of policies that an agent takes at once: split it", strings.Join(names, ", "))
	}
	if t.text = b.String(); len(files) == 1 {
		t.name = t.parts[0].source
	}
	return t, nil
}

// place has an error about several files name the one and the line in it.
func (t *policyText) place(err error) error {
	if len(t.parts) < 2 || err == nil || !strings.Contains(err.Error(), severalFiles) {
		return err
	}
	message := err.Error()
	var ce *connect.Error
	if errors.As(err, &ce) {
		message = ce.Message()
	}
	message = regexp.MustCompile(`\b`+severalFiles+`:(\d+)`).ReplaceAllStringFunc(message, func(at string) string {
		line, err := strconv.Atoi(at[len(severalFiles)+1:])
		if err != nil {
			return at
		}
		part := t.parts[0]
		for _, p := range t.parts {
			if p.first <= line {
				part = p
			}
		}
		return fmt.Sprintf("%s:%d", part.source, line-part.first+1)
	})
	var code interface{ ExitCode() int }
	switch {
	case ce != nil:
		return connect.NewError(ce.Code(), errors.New(message))
	case errors.As(err, &code) && code.ExitCode() == ExitCannot:
		return Cannot(errors.New(message))
	}
	return err
}

// yamlFiles lists files, with those of directories.
func yamlFiles(names []string) ([]string, error) {
	var out []string
	for _, name := range names {
		info, err := os.Stat(name)
		if name == "-" || err == nil && !info.IsDir() {
			out = append(out, name)
			continue
		}
		if err != nil {
			return nil, err
		}
		entries, err := os.ReadDir(name)
		if err != nil {
			return nil, err
		}
		for _, e := range entries {
			if !strings.HasPrefix(e.Name(), ".") && !e.IsDir() && slices.Contains([]string{".yaml", ".yml"}, filepath.Ext(e.Name())) {
				out = append(out, filepath.Join(name, e.Name()))
			}
		}
	}
	return out, nil
}

// sourceName is what errors call a file.
func sourceName(file string) string {
	if file == "-" {
		return "standard input"
	}
	return file
}

func readPolicyFile(env Env, file string) (string, error) {
	in := env.In
	if file != "-" {
		f, err := os.Open(file)
		if err != nil {
			return "", fmt.Errorf("read policies: %w", err)
		}
		defer f.Close()
		in = f
	}
	b, err := io.ReadAll(io.LimitReader(in, maxPolicyText+1))
	switch {
	case err != nil:
		return "", fmt.Errorf("read policies: %w", err)
	case len(b) > maxPolicyText:
		return "", fmt.Errorf("%s is larger than the 4 MiB of policies that an agent takes at once: split it", sourceName(file))
	}
	// What is not UTF-8 cannot be sent, and no policy has it.
	return strings.ToValidUTF8(string(b), "\ufffd"), nil
}
