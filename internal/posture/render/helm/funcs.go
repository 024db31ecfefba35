// SPDX-License-Identifier: Apache-2.0

package helm

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"path"
	"strings"
	"text/template"

	"github.com/BurntSushi/toml"
	"github.com/Masterminds/sprig/v3"
	"github.com/gobwas/glob"
	"sigs.k8s.io/yaml"
	yamlv3 "sigs.k8s.io/yaml/goyaml.v3"
)

// maxDepth is how often a template may be inside itself.
const maxDepth = 1000

// functions are those that Helm's documentation names, "Template Functions". None reaches the network, the environment or the file system.
func functions(root *template.Template) template.FuncMap {
	f := sprig.TxtFuncMap()
	delete(f, "env")
	delete(f, "expandenv")
	maps.Copy(f, template.FuncMap{
		"toYaml": func(v any) string { return text(yaml.Marshal(v)) }, "mustToYaml": mustYAML, "toYamlPretty": prettyYAML,
		"fromYaml": fromYAML, "fromYamlArray": fromYAMLList,
		"toJson": func(v any) string { return text(json.Marshal(v)) }, "mustToJson": mustJSON, "fromJson": fromJSON, "fromJsonArray": fromJSONList,
		"toToml": toTOML, "fromToml": fromTOML,
		"required":      required,
		"fail":          func(message string) (string, error) { return "", errors.New(message) },
		"lookup":        func(string, string, string, string) map[string]any { return map[string]any{} }, // as without a cluster
		"getHostByName": func(string) string { return "" },
	})
	maps.Copy(f, nesting(root, map[string]int{}))
	return f
}

// nesting are the functions that render templates in templates.
func nesting(root *template.Template, open map[string]int) template.FuncMap {
	return template.FuncMap{
		"include": func(name string, data any) (string, error) {
			if open[name]++; open[name] > maxDepth {
				return "", fmt.Errorf("the template %s includes itself without an end", name)
			}
			var b strings.Builder
			err := root.ExecuteTemplate(&b, name, data)
			open[name]--
			return b.String(), err
		},
		"tpl": func(source string, data any) (string, error) {
			inner, err := root.Clone()
			if err != nil {
				return "", fmt.Errorf("copy the templates: %w", err)
			}
			inner.Option("missingkey=zero").Funcs(nesting(inner, open))
			made, err := inner.New(root.Name()).Parse(source)
			if err != nil {
				return "", err
			}
			var b strings.Builder
			err = made.Execute(&b, data)
			return strings.ReplaceAll(b.String(), "<no value>", ""), err
		},
	}
}

func required(message string, v any) (any, error) {
	if v == nil || v == "" {
		return v, errors.New(message)
	}
	return v, nil
}

// text is what an encoder made, without its last line end; of what cannot be encoded it is empty.
func text(encoded []byte, err error) string {
	if err != nil {
		return ""
	}
	return strings.TrimSuffix(string(encoded), "\n")
}

func mustYAML(v any) (string, error) {
	encoded, err := yaml.Marshal(v)
	return text(encoded, err), err
}

func mustJSON(v any) (string, error) {
	encoded, err := json.Marshal(v)
	return text(encoded, err), err
}

func prettyYAML(v any) string {
	var b bytes.Buffer
	enc := yamlv3.NewEncoder(&b)
	enc.SetIndent(2)
	err := enc.Encode(v)
	return text(b.Bytes(), err)
}

// What cannot be decoded is an object, or a list, with the error: templates ask for that.
func fromYAML(s string) map[string]any {
	out := map[string]any{}
	if err := yaml.Unmarshal([]byte(s), &out); err != nil {
		out["Error"] = err.Error()
	}
	return out
}

func fromYAMLList(s string) []any {
	out := []any{}
	if err := yaml.Unmarshal([]byte(s), &out); err != nil {
		return []any{err.Error()}
	}
	return out
}

func fromJSON(s string) map[string]any {
	out := map[string]any{}
	if err := json.Unmarshal([]byte(s), &out); err != nil {
		out["Error"] = err.Error()
	}
	return out
}

func fromJSONList(s string) []any {
	out := []any{}
	if err := json.Unmarshal([]byte(s), &out); err != nil {
		return []any{err.Error()}
	}
	return out
}

func toTOML(v any) string {
	var b bytes.Buffer
	if err := toml.NewEncoder(&b).Encode(v); err != nil {
		return err.Error()
	}
	return b.String()
}

func fromTOML(s string) map[string]any {
	out := map[string]any{}
	if err := toml.Unmarshal([]byte(s), &out); err != nil {
		out["Error"] = err.Error()
	}
	return out
}

// files are those of a chart that are no templates, as templates ask for them: name → content.
type files map[string][]byte

func filesOf(list []File) files {
	out := files{}
	for _, f := range list {
		out[f.Name] = f.Data
	}
	return out
}

// GetBytes is the content of a file; empty when there is none.
func (f files) GetBytes(name string) []byte {
	if data, ok := f[name]; ok {
		return data
	}
	return []byte{}
}

// Get is GetBytes as text.
func (f files) Get(name string) string { return string(f.GetBytes(name)) }

// Lines are the lines of a file.
func (f files) Lines(name string) []string {
	s := f.Get(name)
	if s == "" {
		return []string{}
	}
	return strings.Split(strings.TrimSuffix(s, "\n"), "\n")
}

// Glob are the files whose path matches a pattern; ** goes into directories.
func (f files) Glob(pattern string) files {
	g, err := glob.Compile(pattern, '/')
	if err != nil {
		g = glob.MustCompile("**")
	}
	out := files{}
	for name, data := range f {
		if g.Match(name) {
			out[name] = data
		}
	}
	return out
}

// AsConfig is YAML for a ConfigMap's data: name → text.
func (f files) AsConfig() string {
	out := map[string]string{}
	for name, data := range f {
		out[path.Base(name)] = string(data)
	}
	return text(yaml.Marshal(out))
}

// AsSecrets is YAML for a Secret's data: name → base64.
func (f files) AsSecrets() string {
	out := map[string]string{}
	for name, data := range f {
		out[path.Base(name)] = base64.StdEncoding.EncodeToString(data)
	}
	return text(yaml.Marshal(out))
}
