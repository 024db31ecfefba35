// SPDX-License-Identifier: Apache-2.0

package helm

import (
	"fmt"
	"path"
	"slices"
	"strings"
	"text/template"
)

// Instance is a chart with its values: what is rendered.
type Instance struct {
	Templates []*Template // of the chart and of all that are turned on in it
	CRDs      []File      // as they are in the chart; Name is the path under its root
	scopes    map[string]map[string]any
}

// Instance lays values over the chart's own. version is that of Kubernetes, as in "1.36".
func (c *Chart) Instance(values map[string]any, version string) (*Instance, error) {
	on, all, err := c.resolve(values)
	if err != nil {
		return nil, err
	}
	in := &Instance{scopes: map[string]map[string]any{}}
	top := map[string]any{"Capabilities": capabilitiesOf(version),
		"Release": map[string]any{"Name": "release-name", "Namespace": "default", "IsUpgrade": false, "IsInstall": true, "Revision": 1, "Service": "Helm"}}
	in.add(on, all, top, on.Meta.Name, "")
	return in, nil
}

// resolve is the chart as its values have it, with those dependencies that are on, and its values.
func (c *Chart) resolve(values map[string]any) (on *Chart, all map[string]any, err error) {
	if all, err = c.coalesce(values); err != nil {
		return nil, nil, err
	}
	if on, err = c.enabled(all).imported(); err != nil {
		return nil, nil, err
	}
	all, err = on.coalesce(values)
	return on, all, err
}

// add takes in a chart. name is what templates call it by, dir is where it is under the root.
func (in *Instance) add(c *Chart, values, top map[string]any, name, dir string) map[string]any {
	chart := map[string]any{}
	for k, v := range c.Meta.all {
		chart[strings.ToUpper(k[:1])+k[1:]] = v
	}
	chart["Name"], chart["IsRoot"] = c.Meta.Name, dir == ""
	scope := map[string]any{"Chart": chart, "Values": values, "Files": filesOf(c.Files), "Subcharts": map[string]any{}}
	for k, v := range top {
		scope[k] = v
	}
	subcharts, _ := scope["Subcharts"].(map[string]any)
	for _, sub := range c.Charts {
		own, _ := values[sub.Meta.Name].(map[string]any)
		subcharts[sub.Meta.Name] = in.add(sub, own, top, path.Join(name, "charts", sub.Meta.Name), path.Join(dir, sub.Dir))
	}
	for _, t := range c.Templates {
		if c.Meta.Type == "library" && !partial(t.Name) {
			continue // a library gives others what they include, and nothing else
		}
		made := &Template{Name: path.Join(name, t.Name), Path: path.Join(dir, t.Name), Text: t.Text}
		in.Templates = append(in.Templates, made)
		in.scopes[made.Name] = scope
	}
	for _, f := range c.Files {
		if strings.HasPrefix(f.Name, "crds/") && slices.Contains([]string{".yaml", ".yml", ".json"}, path.Ext(f.Name)) {
			in.CRDs = append(in.CRDs, File{path.Join(dir, f.Name), f.Data})
		}
	}
	return scope
}

// basePath is the directory of the templates that one is among.
func basePath(name string) string {
	return name[:strings.LastIndex(name, "/templates/")+len("/templates")]
}

func partial(name string) bool { return strings.HasPrefix(path.Base(name), "_") }

// Render renders the templates: name → text. texts are the templates' texts, by name. Given only, it renders that one; the others are there
// for what they define, and those of them that do not parse are not. An error is that of the first template that fails.
func (in *Instance) Render(texts map[string][]byte, only string) (out map[string]string, err error) {
	defer func() { // a function of a template may panic
		if r := recover(); r != nil {
			out, err = nil, fmt.Errorf("a function failed: %v", r)
		}
	}()
	root := template.New("gotpl").Option("missingkey=zero")
	root.Funcs(functions(root))
	// Of templates that define the same name the last one counts: that of the outermost chart.
	names := make([]string, 0, len(texts))
	for name := range texts {
		names = append(names, name)
	}
	slices.SortFunc(names, func(a, b string) int {
		if d := strings.Count(b, "/") - strings.Count(a, "/"); d != 0 {
			return d
		}
		return strings.Compare(b, a)
	})
	for _, name := range names {
		if only != "" && name != only && Check(name, texts[name]) != nil {
			continue
		}
		if _, err := root.New(name).Parse(string(texts[name])); err != nil {
			return nil, err
		}
	}
	out = map[string]string{}
	for _, name := range names {
		if partial(name) || only != "" && name != only {
			continue
		}
		scope := in.scopes[name]
		scope["Template"] = map[string]any{"Name": name, "BasePath": basePath(name)}
		var b strings.Builder
		if err := root.ExecuteTemplate(&b, name, scope); err != nil {
			return nil, err
		}
		out[name] = strings.ReplaceAll(b.String(), "<no value>", "")
	}
	return out, nil
}

// Check reports why a template does not parse.
func Check(name string, text []byte) error {
	t := template.New(name)
	_, err := t.Funcs(functions(t)).Parse(string(text))
	return err
}

// capabilities are what templates know of the cluster.
type capabilities struct {
	KubeVersion kubeVersion
	APIVersions versionSet
	HelmVersion helmVersion
}

type kubeVersion struct{ Version, Major, Minor string }

// GitVersion is an old name of Version.
func (v kubeVersion) GitVersion() string { return v.Version }

// String implements fmt.Stringer.
func (v kubeVersion) String() string { return v.Version }

type helmVersion struct{ Version, GitCommit, GitTreeState, GoVersion string }

type versionSet []string

// Has reports whether the cluster serves a group and version.
func (s versionSet) Has(version string) bool { return slices.Contains(s, version) }

// capabilitiesOf is a cluster with the versions that every supported one serves.
func capabilitiesOf(version string) *capabilities {
	major, minor, ok := strings.Cut(version, ".")
	if !ok {
		major, minor = "1", "36"
	}
	set := versionSet{"v1", "apps/v1", "batch/v1", "autoscaling/v1", "autoscaling/v2", "policy/v1"}
	for _, group := range []string{"admissionregistration", "apiextensions", "apiregistration", "authentication", "authorization", "certificates", "coordination", "discovery",
		"events", "flowcontrol.apiserver", "networking", "node", "rbac.authorization", "resource", "scheduling", "storage"} {
		set = append(set, group+".k8s.io/v1")
	}
	return &capabilities{KubeVersion: kubeVersion{"v" + major + "." + minor + ".0", major, minor}, APIVersions: set, HelmVersion: helmVersion{Version: "v4.3", GoVersion: "go1.26"}}
}
