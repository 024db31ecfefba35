// SPDX-License-Identifier: Apache-2.0

// Package install puts vigie into a Kubernetes cluster and takes it out. In: values, as the Helm chart in deploy/helm has them, and a
// cluster. Out: the objects of the chart, printed or applied; and after an uninstall a cluster and nodes without a trace.
package install

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"
	"text/template"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"

	"github.com/vigie-io/vigie/deploy/helm"
)

// DefaultNamespace is where vigie lives when nobody says otherwise.
const DefaultNamespace = "vigie-system"

// Service is who made an object, in its label app.kubernetes.io/managed-by. Helm writes "Helm" there.
const Service = "vigie-install"

// Options say what to install.
type Options struct {
	Namespace string
	Version   string         // of vigie: the image's tag, unless the values name one
	Values    map[string]any // over the chart's own; as in JSON
	// Lookup gives an object of the cluster, or nothing where it is not there; nil when there is no cluster to ask.
	Lookup func(kind, namespace, name string) (map[string]any, error)
}

// release is what the templates read, by Helm's names.
type release struct {
	Release struct{ Name, Namespace, Service string }
	Chart   struct{ Name, AppVersion string }
	Values  map[string]any
	Files   files
	lookup  func(kind, namespace, name string) (map[string]any, error)
}

// Render gives the objects of the chart in the order in which they are to be applied.
func Render(o Options) ([]*unstructured.Unstructured, error) {
	chart, err := helm.Chart()
	if err != nil {
		return nil, err
	}
	var r release
	r.Release.Name, r.Release.Namespace, r.Release.Service = "vigie", o.Namespace, Service
	r.Chart.Name, r.Chart.AppVersion = "vigie", o.Version
	r.Files, r.lookup = files{chart}, o.Lookup
	if r.Values, err = values(chart, o.Values); err != nil {
		return nil, err
	}
	texts, err := execute(chart, r)
	if err != nil {
		return nil, err
	}
	return Parse(texts...)
}

// values are the chart's values with those of the user over them.
func values(chart fs.FS, over map[string]any) (map[string]any, error) {
	data, err := fs.ReadFile(chart, "values.yaml")
	if err != nil {
		return nil, err
	}
	all := map[string]any{}
	if err := yaml.Unmarshal(data, &all); err != nil {
		return nil, fmt.Errorf("read the chart's values: %w", err)
	}
	if err := merge(all, over, ""); err != nil {
		return nil, err
	}
	return all, nil
}

// free are the values that are maps of the user's own names.
func free() []string {
	return []string{"agent.config", "agent.nodeSelector", "agent.resources", "relay.nodeSelector", "relay.resources"}
}

// merge puts values over others, as Helm does: maps are merged, and null takes a name away. Names that the chart does not know are errors
// outside of the free maps; values.schema.json says the same to Helm. at is where in the values it is, with a dot at its end.
func merge(into, over map[string]any, at string) error {
	var errs []error
	for name, v := range over {
		old, known := into[name]
		oldMap, isMap := old.(map[string]any)
		newMap, given := v.(map[string]any)
		switch {
		case !known && !isFree(at):
			errs = append(errs, fmt.Errorf("there is no value %s%s; `vigie install --show-values` lists them", at, name))
		case v == nil:
			delete(into, name)
		case isMap && given:
			errs = append(errs, merge(oldMap, newMap, at+name+"."))
		case isMap != given && known && !isFree(at):
			errs = append(errs, fmt.Errorf("the value %s%s is %v, it must be like the chart's own: %v", at, name, v, old))
		default:
			into[name] = v
		}
	}
	return errors.Join(errs...)
}

func isFree(at string) bool {
	return slices.ContainsFunc(free(), func(f string) bool { return strings.HasPrefix(at, f+".") })
}

// execute runs the chart's templates with those of Helm's functions that they use. A template that only defines gives nothing.
func execute(chart fs.FS, r release) ([]string, error) {
	all := template.New("vigie").Option("missingkey=error")
	all.Funcs(functions(all, r.lookup))
	var names []string
	err := fs.WalkDir(chart, "templates", func(name string, d fs.DirEntry, err error) error {
		if ext := path.Ext(name); err != nil || ext != ".yaml" && ext != ".tpl" {
			return err
		}
		data, err := fs.ReadFile(chart, name)
		if err != nil {
			return err
		}
		names = append(names, name)
		_, err = all.New(name).Parse(string(data))
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("read the chart's templates: %w", err)
	}
	var texts []string
	for _, name := range names {
		var out strings.Builder
		if err := all.ExecuteTemplate(&out, name, r); err != nil {
			return nil, fmt.Errorf("render the chart: %w", err)
		}
		texts = append(texts, out.String())
	}
	return texts, nil
}

// Parse reads YAML documents as objects, in the order in which they are to be applied.
func Parse(texts ...string) ([]*unstructured.Unstructured, error) {
	var objects []*unstructured.Unstructured
	for _, text := range texts {
		for doc := range strings.SplitSeq("\n"+text, "\n---\n") {
			object := map[string]any{}
			if err := yaml.Unmarshal([]byte(doc), &object); err != nil {
				return nil, fmt.Errorf("read a rendered object: %w:\n%s", err, doc)
			}
			if len(object) > 0 {
				objects = append(objects, &unstructured.Unstructured{Object: object})
			}
		}
	}
	slices.SortStableFunc(objects, func(a, b *unstructured.Unstructured) int { return rank(a.GetKind()) - rank(b.GetKind()) })
	return objects, nil
}

// rank orders kinds by what must be there before what.
func rank(kind string) int {
	order := []string{"Namespace", "CustomResourceDefinition", "ServiceAccount", "Secret", "ConfigMap", "ClusterRole", "ClusterRoleBinding", "Role", "RoleBinding", "Service"}
	if at := slices.Index(order, kind); at >= 0 {
		return at
	}
	return len(order)
}

// Print gives the objects as YAML documents.
func Print(objects []*unstructured.Unstructured) ([]byte, error) {
	var out bytes.Buffer
	for i, o := range objects {
		if i > 0 {
			out.WriteString("---\n")
		}
		data, err := yaml.Marshal(o.Object)
		if err != nil {
			return nil, err
		}
		out.Write(data)
	}
	return out.Bytes(), nil
}

// ShowValues gives the chart's values, with their comments.
func ShowValues() ([]byte, error) {
	chart, err := helm.Chart()
	if err != nil {
		return nil, err
	}
	return fs.ReadFile(chart, "values.yaml")
}
