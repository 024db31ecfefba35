// SPDX-License-Identifier: Apache-2.0

package render

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/api/resource"
	"sigs.k8s.io/kustomize/kyaml/filesys"

	"github.com/vigie-io/vigie/internal/posture/manifest"
)

// Overlay renders a directory with a kustomization. Bases in other places than this file system are not fetched: that is a problem, and
// nothing is rendered.
func Overlay(dir string) ([]Manifest, []Problem) {
	file := OverlayIn(dir)
	o := &overlay{dir: dir, seen: map[string]bool{}, docs: map[string][]*manifest.Document{}}
	if problems := o.check(dir); len(problems) > 0 {
		return nil, problems
	}
	fail := func(err error) ([]Manifest, []Problem) {
		return nil, []Problem{{File: file, Line: 1, Column: 1, Message: "the overlay does not render: " + strings.Join(strings.Fields(err.Error()), " ")}}
	}
	root, err := filepath.Abs(dir)
	if err != nil {
		return fail(err)
	}
	if root, err = filepath.EvalSymlinks(root); err != nil {
		return fail(err)
	}
	o.root = root
	resources, err := krusty.MakeKustomizer(krusty.MakeDefaultOptions()).Run(tracing{filesys.MakeFsOnDisk(), root}, root)
	if err != nil {
		return fail(err)
	}
	var out []Manifest
	for _, r := range resources.Resources() {
		m, err := o.manifest(r, file)
		if err != nil {
			return fail(err)
		}
		out = append(out, m)
	}
	return out, nil
}

type overlay struct {
	dir, root string // as given, and absolute
	seen      map[string]bool
	docs      map[string][]*manifest.Document
	patches   []string // files with patches
}

// fields of a kustomization that name files and directories.
func fields() []string {
	return []string{"resources", "bases", "components", "transformers", "generators", "validators", "crds", "configurations", "patchesStrategicMerge", "patches", "patchesJson6902"}
}

// reference is a file or directory that a kustomization names.
type reference struct {
	field, name, target string
	at                  manifest.Place
}

// references are those of one kustomization, with what else is to be said of it.
func (o *overlay) references(dir string) (refs []reference, problems []Problem) {
	file := OverlayIn(dir)
	for _, d := range o.documents(file) {
		if d.Err != nil {
			problems = append(problems, Problem{File: file, Line: d.Err.Line, Column: d.Err.Column, Message: d.Err.Message})
			continue
		}
		for _, field := range fields() {
			list, _ := d.Value[field].([]any)
			for i, item := range list {
				if fields, ok := item.(map[string]any); ok {
					item = fields["path"]
				}
				if name, _ := item.(string); name != "" && !strings.Contains(name, "\n") {
					refs = append(refs, reference{field, name, filepath.Join(dir, name), d.At([]string{field, strconv.Itoa(i)})})
				}
			}
		}
		if _, ok := d.Value["helmCharts"]; ok {
			at := d.At([]string{"helmCharts"})
			problems = append(problems, Problem{File: at.File, Line: at.Line, Column: at.Column, Message: "helmCharts would run helm, which is not done: scan the chart itself"})
		}
	}
	return refs, problems
}

// References are the files and directories that the kustomization of a directory names: they are rendered with it, and not to be
// scanned apart.
func References(dir string) []string {
	o := &overlay{docs: map[string][]*manifest.Document{}}
	refs, _ := o.references(dir)
	var out []string
	for _, r := range refs {
		out = append(out, r.target)
	}
	return out
}

// Resources are the files that the kustomization of a directory takes objects from.
func Resources(dir string) []string {
	o := &overlay{docs: map[string][]*manifest.Document{}}
	refs, _ := o.references(dir)
	var out []string
	for _, r := range refs {
		if r.field == "resources" && isFile(r.target) {
			out = append(out, r.target)
		}
	}
	return out
}

// IsComponent reports whether the kustomization of a directory is a part of others, and nothing by itself.
func IsComponent(dir string) bool {
	o := &overlay{docs: map[string][]*manifest.Document{}}
	return slices.ContainsFunc(o.documents(OverlayIn(dir)), func(d *manifest.Document) bool { return d.Value["kind"] == "Component" })
}

// check reads kustomizations, and refuses what is not here. It also learns which files are patches.
func (o *overlay) check(dir string) []Problem {
	real, err := filepath.EvalSymlinks(dir)
	if err != nil || o.seen[real] || OverlayIn(dir) == "" {
		return nil
	}
	o.seen[real] = true
	refs, problems := o.references(dir)
	for _, r := range refs {
		switch _, err := os.Stat(r.target); {
		case err != nil:
			problems = append(problems, Problem{File: r.at.File, Line: r.at.Line, Column: r.at.Column,
				Message: r.name + " is not here, and nothing is fetched: the overlay was not rendered"})
		case strings.HasPrefix(r.field, "patches"):
			o.patches = append(o.patches, r.target)
		default:
			problems = append(problems, o.check(r.target)...)
		}
	}
	return problems
}

// documents reads a file once.
func (o *overlay) documents(file string) []*manifest.Document {
	if have, ok := o.docs[file]; ok {
		return have
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return nil // the kustomizer says it
	}
	var docs []*manifest.Document
	r := manifest.NewReader(bytes.NewReader(text), file)
	for {
		d, err := r.Next()
		if errors.Is(err, io.EOF) || err != nil {
			break
		}
		docs = append(docs, d.Items()...)
	}
	o.docs[file] = docs
	return docs
}

// tracing asks the kustomizer to note where each object comes from.
type tracing struct {
	filesys.FileSystem
	root string
}

// ReadFile adds the request to the kustomization at the root.
func (t tracing) ReadFile(name string) ([]byte, error) {
	text, err := t.FileSystem.ReadFile(name)
	if err != nil || filepath.Dir(name) != t.root || name != OverlayIn(t.root) {
		return text, err
	}
	if bytes.Contains(text, []byte("buildMetadata:")) {
		return text, nil // it has its own: without origins the kustomization is the place
	}
	return append(append(bytes.TrimRight(text, "\n"), '\n'), "buildMetadata: [originAnnotations]\n"...), nil
}

// manifest is one object, without the notes about it.
func (o *overlay) manifest(r *resource.Resource, kustomization string) (Manifest, error) {
	m := Manifest{File: kustomization}
	origin, err := r.GetOrigin()
	if err != nil {
		return m, fmt.Errorf("read the origin of %s: %w", r.CurId(), err)
	}
	if err := r.SetOrigin(nil); err != nil {
		return m, fmt.Errorf("read the origin of %s: %w", r.CurId(), err)
	}
	if m.Text, err = r.AsYAML(); err != nil {
		return m, fmt.Errorf("write %s: %w", r.CurId(), err)
	}
	if origin != nil && origin.Path != "" {
		m.File = filepath.Join(o.dir, origin.Path)
	}
	kind := r.GetKind()
	from := find(o.documents(m.File), kind, r.GetName())
	m.Locate = func(path []string, at manifest.Place) manifest.Place { return o.locate(m.File, from, kind, path, at) }
	return m, nil
}

// find is the document that an object was made of. Its name may have got a prefix and a suffix: the longest that is in it is meant.
func find(docs []*manifest.Document, kind, name string) *manifest.Document {
	var found *manifest.Document
	longest := -1
	for _, d := range docs {
		metadata, _ := d.Value["metadata"].(map[string]any)
		own, _ := metadata["name"].(string)
		if d.Value["kind"] == kind && strings.Contains(name, own) && len(own) > longest {
			found, longest = d, len(own)
		}
	}
	return found
}

// locate is the place in the base; or in a patch, when the base has another value there, or none.
func (o *overlay) locate(file string, from *manifest.Document, kind string, path []string, at manifest.Place) manifest.Place {
	base := manifest.Place{File: file, Line: 1, Column: 1, Value: at.Value}
	if from != nil {
		base = from.At(path)
	}
	if base.Found == at.Found && base.Value == at.Value || !at.Found {
		base.Value, base.Found = at.Value, at.Found
		return base
	}
	for _, patch := range o.patches {
		for _, d := range o.documents(patch) {
			if d.Err != nil || d.Value["kind"] != kind {
				continue
			}
			if place := d.At(path); place.Found && place.Value == at.Value {
				return place
			}
		}
	}
	base.Value, base.Found = at.Value, at.Found
	return base
}
