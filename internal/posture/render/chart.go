// SPDX-License-Identifier: Apache-2.0

package render

import (
	"context"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"helm.sh/helm/v4/pkg/strvals"
	"sigs.k8s.io/yaml"

	"github.com/vigie-io/vigie/internal/posture/render/helm"
)

// Chart is a Helm chart that was read.
type Chart struct {
	root  string // directory or archive
	chart *helm.Chart
}

// OpenChart reads a chart: a directory or an archive.
func OpenChart(root string) (*Chart, error) {
	c, err := helm.Load(root)
	if err != nil {
		return nil, err
	}
	return &Chart{root: root, chart: c}, nil
}

// Settable are the values that the chart and its dependencies have when a user gives these, or whose names their schemas declare.
func (c *Chart) Settable(v Values) (map[string]any, error) {
	given, err := ValuesOf(v)
	if err != nil {
		return nil, err
	}
	all, err := c.chart.Effective(given)
	if err != nil {
		return nil, fmt.Errorf("put the chart's values together: %w", err)
	}
	out := c.chart.Declared()
	helm.Merge(out, all)
	return out, nil
}

// Faults are what the schemas of the chart and its dependencies do not allow of a user's values.
func (c *Chart) Faults(v Values) ([]string, error) {
	given, err := ValuesOf(v)
	if err != nil {
		return nil, err
	}
	faults, err := c.chart.Faults(given)
	if err != nil {
		return nil, fmt.Errorf("put the chart's values together: %w", err)
	}
	return faults, nil
}

// ValuesOf reads what the user gave: files, then what was set.
func ValuesOf(v Values) (map[string]any, error) {
	all := map[string]any{}
	for _, file := range v.Files {
		text, err := os.ReadFile(file)
		if err != nil {
			return nil, fmt.Errorf("read values: %w", err)
		}
		values := map[string]any{}
		if err := yaml.Unmarshal(text, &values); err != nil {
			return nil, fmt.Errorf("read values %s: %w", file, err)
		}
		helm.Merge(all, values)
	}
	for _, set := range v.Set {
		if err := strvals.ParseInto(set, all); err != nil {
			return nil, fmt.Errorf("read the value %q: %w", set, err)
		}
	}
	return all, nil
}

// source is one template, of the chart or of one that it depends on.
type source struct {
	*helm.Template
	file string // as a person calls it
}

func (s *source) partial() bool { return strings.HasPrefix(path.Base(s.Name), "_") }

// rendering is a chart with its values.
type rendering struct {
	chart    *Chart
	instance *helm.Instance
	sources  []*source
}

// Render makes the manifests. A template that does not render is a problem with its line; the others are rendered all the same.
func (c *Chart) Render(ctx context.Context, values map[string]any, version string) ([]Manifest, []Problem, error) {
	var problems []Problem
	for _, missing := range c.chart.Missing() {
		problems = append(problems, Problem{File: c.file("Chart.yaml"), Line: 1, Column: 1, Note: true, Message: missing})
	}
	instance, err := c.chart.Instance(values, version)
	if err != nil {
		return nil, nil, fmt.Errorf("put the chart's values together: %w", err)
	}
	r := &rendering{chart: c, instance: instance}
	texts, marks := map[string][]byte{}, map[string][]byte{}
	for i, t := range instance.Templates {
		r.sources = append(r.sources, &source{t, c.file(t.Path)})
		texts[t.Name], marks[t.Name] = t.Text, marked(t.Text, i)
	}
	out, broken := r.all(ctx, texts)
	problems = append(problems, broken...)
	withMarks, failed := r.all(ctx, marks)
	if len(failed) > len(broken) { // some function cannot take the marks
		withMarks = nil
	}
	var manifests []Manifest
	for _, s := range r.sources {
		text := out[s.Name]
		if s.partial() || path.Base(s.Name) == "NOTES.txt" || strings.TrimSpace(text) == "" {
			continue
		}
		manifests = append(manifests, Manifest{File: s.file, Text: []byte(text), Locate: r.locator(s, text, withMarks[s.Name])})
	}
	for _, crd := range instance.CRDs {
		manifests = append(manifests, Manifest{File: c.file(crd.Name), Text: crd.Data})
	}
	return manifests, problems, nil
}

func (c *Chart) file(name string) string { return filepath.Join(c.root, filepath.FromSlash(name)) }

// all renders every template. When one fails the engine gives nothing: then each is rendered apart from the others.
func (r *rendering) all(ctx context.Context, texts map[string][]byte) (map[string]string, []Problem) {
	out, err := r.instance.Render(texts, "")
	if err == nil {
		return out, nil
	}
	out = map[string]string{}
	said := map[Problem]bool{}
	var problems []Problem
	for _, one := range r.sources {
		if ctx.Err() != nil {
			break
		}
		var own map[string]string
		if one.partial() {
			err = helm.Check(one.Name, texts[one.Name])
		} else {
			own, err = r.instance.Render(texts, one.Name)
		}
		if err != nil {
			if p := r.problem(one, err); !said[p] {
				said[p] = true
				problems = append(problems, p)
			}
			continue
		}
		out[one.Name] = own[one.Name]
	}
	return out, problems
}

var placeInError = regexp.MustCompile(`([^\s():]+/templates/[^\s():]+):(\d+)(?::(\d+))?`)

// problem finds the line that an error of the engine is about.
func (r *rendering) problem(of *source, err error) Problem {
	text := err.Error()
	p := Problem{File: of.file, Line: 1, Column: 1, Message: "the template does not render: " + strings.Join(strings.Fields(placeInError.ReplaceAllString(text, "")), " ")}
	if m := placeInError.FindStringSubmatch(text); m != nil {
		if i := slices.IndexFunc(r.sources, func(s *source) bool { return s.Name == m[1] }); i >= 0 {
			p.File = r.sources[i].file
		}
		p.Line, _ = strconv.Atoi(m[2]) // digits
		if column, err := strconv.Atoi(m[3]); err == nil {
			p.Column = column + 1 // the engine counts from 0
		}
	}
	return p
}
