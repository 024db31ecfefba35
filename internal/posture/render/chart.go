// SPDX-License-Identifier: Apache-2.0

package render

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"helm.sh/helm/v4/pkg/chart/common"
	commonutil "helm.sh/helm/v4/pkg/chart/common/util"
	chart "helm.sh/helm/v4/pkg/chart/v2"
	"helm.sh/helm/v4/pkg/chart/v2/loader"
	chartutil "helm.sh/helm/v4/pkg/chart/v2/util"
	"helm.sh/helm/v4/pkg/engine"
	"helm.sh/helm/v4/pkg/strvals"
)

// Chart is a Helm chart that was read.
type Chart struct {
	root      string // directory or archive
	chart     *chart.Chart
	templates []*source
	caps      *common.Capabilities
}

// source is one template, of the chart or of one that it depends on.
type source struct {
	name   string // as the engine calls it
	file   string // as a person does
	text   []byte
	data   *[]byte // where the engine reads it
	marked []byte  // with a mark on every line
}

func (s *source) partial() bool { return strings.HasPrefix(path.Base(s.name), "_") }

// OpenChart reads a chart: a directory or an archive.
func OpenChart(root string) (*Chart, error) {
	c, err := loader.Load(root)
	if err != nil {
		return nil, fmt.Errorf("read the chart: %w", err)
	}
	return &Chart{root: root, chart: c}, nil
}

// Defaults are the chart's own values.
func (c *Chart) Defaults() map[string]any { return c.chart.Values }

// ValuesOf reads what the user gave: files, then what was set.
func ValuesOf(v Values) (map[string]any, error) {
	all := map[string]any{}
	for _, file := range v.Files {
		text, err := os.ReadFile(file)
		if err != nil {
			return nil, fmt.Errorf("read values: %w", err)
		}
		values, err := loader.LoadValues(bytes.NewReader(text))
		if err != nil {
			return nil, fmt.Errorf("read values %s: %w", file, err)
		}
		all = loader.MergeMaps(all, values)
	}
	for _, set := range v.Set {
		if err := strvals.ParseInto(set, all); err != nil {
			return nil, fmt.Errorf("read the value %q: %w", set, err)
		}
	}
	return all, nil
}

// Render makes the manifests. A template that does not render is a problem with its line; the others are rendered all the same.
func (c *Chart) Render(ctx context.Context, values map[string]any, version string) ([]Manifest, []Problem, error) {
	var problems []Problem
	for _, d := range c.chart.Metadata.Dependencies {
		if !slices.ContainsFunc(c.chart.Dependencies(), func(have *chart.Chart) bool { return have.Name() == d.Name }) {
			problems = append(problems, Problem{File: c.file("Chart.yaml"), Line: 1, Column: 1, Note: true,
				Message: "the dependency " + d.Name + " is not in charts/ and was not rendered: run `helm dependency build`"})
		}
	}
	if err := chartutil.ProcessDependencies(c.chart, values); err != nil {
		return nil, nil, fmt.Errorf("read the chart's dependencies: %w", err)
	}
	top, err := c.values(values, version)
	if err != nil {
		return nil, nil, err
	}
	c.collect(c.chart, c.chart.Name(), "")
	texts, broken := c.all(ctx, top)
	problems = append(problems, broken...)
	c.mark()
	marked, failed := c.all(ctx, top)
	if len(failed) > len(broken) { // some function cannot take the marks
		marked = nil
	}
	var out []Manifest
	for _, s := range c.templates {
		text := texts[s.name]
		if s.partial() || path.Base(s.name) == "NOTES.txt" || strings.TrimSpace(text) == "" {
			continue
		}
		out = append(out, Manifest{File: s.file, Text: []byte(text), Locate: c.locator(s, text, marked[s.name])})
	}
	for _, crd := range c.chart.CRDObjects() {
		out = append(out, Manifest{File: c.file(crd.Filename), Text: crd.File.Data})
	}
	return out, problems, nil
}

func (c *Chart) values(values map[string]any, version string) (common.Values, error) {
	caps := common.DefaultCapabilities.Copy()
	if version != "" {
		parsed, err := common.ParseKubeVersion(version)
		if err != nil {
			return nil, fmt.Errorf("read the Kubernetes version: %w", err)
		}
		caps.KubeVersion = *parsed
	}
	release := common.ReleaseOptions{Name: "release-name", Namespace: "default", Revision: 1, IsInstall: true}
	// A schema of values may name others by their address: it is not asked.
	top, err := commonutil.ToRenderValuesWithSchemaValidation(c.chart, values, release, caps, true)
	if err != nil {
		return nil, fmt.Errorf("put the chart's values together: %w", err)
	}
	return top, nil
}

// collect finds the templates of a chart and of those in it. prefix is the engine's name of the chart, dir its place under the root.
func (c *Chart) collect(of *chart.Chart, prefix, dir string) {
	if dir == "" {
		c.templates = nil
	}
	for _, f := range of.Templates {
		s := &source{name: path.Join(prefix, f.Name), file: c.file(path.Join(dir, f.Name)), text: f.Data, data: &f.Data}
		c.templates = append(c.templates, s)
	}
	for _, d := range of.Dependencies() {
		c.collect(d, path.Join(prefix, "charts", d.Name()), path.Join(dir, "charts", d.Name()))
	}
}

func (c *Chart) file(name string) string { return filepath.Join(c.root, filepath.FromSlash(name)) }

// all renders every template. When one fails the engine gives nothing: then each is rendered apart from the others.
func (c *Chart) all(ctx context.Context, top common.Values) (map[string]string, []Problem) {
	out, err := c.render(ctx, top)
	if err == nil {
		return out, nil
	}
	out = map[string]string{}
	said := map[string]bool{}
	var problems []Problem
	kept := make([][]byte, len(c.templates))
	for i, s := range c.templates {
		kept[i] = *s.data
	}
	for _, one := range c.templates {
		if one.partial() {
			continue
		}
		for i, s := range c.templates {
			*s.data = kept[i]
			if s != one && !s.partial() {
				*s.data = nil
			}
		}
		own, err := c.render(ctx, top)
		if err != nil {
			p := c.problem(one, err)
			if key := fmt.Sprint(p.File, p.Line, p.Message); !said[key] {
				said[key] = true
				problems = append(problems, p)
			}
			continue
		}
		out[one.name] = own[one.name]
	}
	for i, s := range c.templates {
		*s.data = kept[i]
	}
	return out, problems
}

func (c *Chart) render(ctx context.Context, top common.Values) (map[string]string, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	return engine.Engine{}.RenderWithContext(ctx, c.chart, top)
}

var placeInError = regexp.MustCompile(`([^\s():]+/templates/[^\s():]+):(\d+)(?::(\d+))?`)

// problem finds the line that an error of the engine is about.
func (c *Chart) problem(of *source, err error) Problem {
	text := err.Error()
	p := Problem{File: of.file, Line: 1, Column: 1, Message: "the template does not render: " + strings.Join(strings.Fields(placeInError.ReplaceAllString(text, "")), " ")}
	if m := placeInError.FindStringSubmatch(text); m != nil {
		if i := slices.IndexFunc(c.templates, func(s *source) bool { return s.name == m[1] }); i >= 0 {
			p.File = c.templates[i].file
		}
		p.Line, _ = strconv.Atoi(m[2]) // digits
		if column, err := strconv.Atoi(m[3]); err == nil {
			p.Column = column + 1 // the engine counts from 0
		}
	}
	return p
}
