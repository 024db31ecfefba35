// SPDX-License-Identifier: Apache-2.0

package control

import (
	"bytes"
	"cmp"
	"embed"
	"encoding/json"
	"fmt"
	"io/fs"
	"path"
	"regexp"
	"slices"
	"strings"

	admv1 "k8s.io/api/admissionregistration/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/vigie-io/vigie/internal/posture/manifest"
)

//go:embed controls
var embedded embed.FS

// DefaultSource stands before the file names of the controls that come with vigie.
const DefaultSource = "builtin"

// library is what library.yaml holds.
type library struct {
	Variables []admv1.Variable                `json:"variables"`
	Match     map[string]admv1.MatchResources `json:"match"`
}

//go:generate go run ./bundle

// bundle is what go generate made of the files: the same controls, faster to read.
//
//go:embed controls.json
var bundle []byte

// bundled is a control in the bundle. Its tests are read from its file when somebody asks for them.
type bundled struct {
	ID     string                           `json:"id"`
	Source string                           `json:"source"`
	Spec   *Control                         `json:"spec"`
	Policy *admv1.ValidatingAdmissionPolicy `json:"policy"`
}

// Default are the controls that come with vigie, by id.
func Default() ([]*Control, error) {
	var list []bundled
	if err := json.Unmarshal(bundle, &list); err != nil {
		return nil, fmt.Errorf("read the controls that come with vigie: %w", err)
	}
	all := make([]*Control, len(list))
	for i, b := range list {
		b.Spec.ID, b.Spec.Source, b.Spec.Policy = b.ID, b.Source, b.Policy
		all[i] = b.Spec
	}
	return all, nil
}

// Bundle makes the bundle of the files.
func Bundle() ([]byte, error) {
	all, err := files()
	if err != nil {
		return nil, err
	}
	list := make([]bundled, len(all))
	for i, c := range all {
		list[i] = bundled{c.ID, c.Source, c, c.Policy}
	}
	text, err := json.MarshalIndent(list, "", " ")
	if err != nil {
		return nil, fmt.Errorf("write the bundle: %w", err)
	}
	return append(text, '\n'), nil
}

// files reads the controls that come with vigie from their files.
func files() ([]*Control, error) {
	all, err := ParseFS(embedded, "controls")
	if err != nil {
		return nil, fmt.Errorf("read the controls that come with vigie: %w", err)
	}
	return all, nil
}

// ParseFS reads the controls below a directory, by id. What they share is in the directory's library.yaml.
func ParseFS(from fs.FS, dir string) ([]*Control, error) {
	lib, err := readLibrary(from, dir)
	if err != nil {
		return nil, err
	}
	var all []*Control
	err = fs.WalkDir(from, dir, func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || path.Ext(name) != ".yaml" || path.Base(name) == "library.yaml" {
			return err
		}
		text, err := fs.ReadFile(from, name)
		if err != nil {
			return err
		}
		c, err := parse(path.Join(DefaultSource, name), text, lib)
		all = append(all, c)
		return err
	})
	if err != nil {
		return nil, err
	}
	slices.SortFunc(all, func(a, b *Control) int { return cmp.Compare(a.ID, b.ID) })
	return all, nil
}

// readTests gets the tests of a control that came out of the bundle.
func (c *Control) readTests() error {
	name, ok := strings.CutPrefix(c.Source, DefaultSource+"/")
	if c.tests != nil || !ok {
		return nil
	}
	text, err := embedded.ReadFile(name)
	if err != nil {
		return fmt.Errorf("read the tests of %s: %w", c.ID, err)
	}
	whole, err := Parse(c.Source, text)
	if err != nil {
		return err
	}
	c.tests, c.line = whole.tests, whole.line
	return nil
}

// Parse reads a file of a user: one control, which may use the library too.
func Parse(file string, text []byte) (*Control, error) {
	lib, err := readLibrary(embedded, "controls")
	if err != nil {
		return nil, err
	}
	return parse(file, text, lib)
}

func readLibrary(from fs.FS, dir string) (*library, error) {
	text, err := fs.ReadFile(from, path.Join(dir, "library.yaml"))
	if err != nil {
		return nil, fmt.Errorf("read the library of controls: %w", err)
	}
	lib := &library{}
	return lib, strict("library.yaml", 1, text, lib)
}

var documentMark = regexp.MustCompile(`(?m)^---[ \t]*\r?\n`)

// parse reads the description, the policy, and leaves the tests for those who want them.
func parse(file string, text []byte, lib *library) (*Control, error) {
	parts := documentMark.Split(string(text), 4)
	if len(parts) < 2 || len(parts) > 3 {
		return nil, fmt.Errorf("%s: a control has two documents, its description and its policy, and perhaps a third with tests", file)
	}
	var head struct {
		metav1.TypeMeta   `json:",inline"`
		metav1.ObjectMeta `json:"metadata"`
		Spec              *Control `json:"spec"`
	}
	if err := strict(file, 1, []byte(parts[0]), &head); err != nil {
		return nil, err
	}
	if head.Kind != "Control" || head.Name == "" || head.Spec == nil {
		return nil, fmt.Errorf("%s: the first document is no Control with a name and a spec", file)
	}
	c := head.Spec
	c.ID, c.Source = head.Name, file
	line := 2 + bytes.Count([]byte(parts[0]), []byte("\n"))
	c.Policy = &admv1.ValidatingAdmissionPolicy{}
	if err := strict(file, line, []byte(parts[1]), c.Policy); err != nil {
		return nil, err
	}
	if len(parts) == 3 {
		c.tests, c.line = []byte(parts[2]), line+1+bytes.Count([]byte(parts[1]), []byte("\n"))
	}
	if err := lib.complete(c); err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	if err := c.check(); err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	return c, nil
}

// strict decodes a YAML document; a field that into does not have is an error.
func strict(file string, line int, text []byte, into any) error {
	doc, err := manifest.NewReader(bytes.NewReader(text), file).Next()
	if err != nil {
		return fmt.Errorf("%s:%d: the document is empty", file, line)
	}
	if doc.Err != nil {
		return fmt.Errorf("%s:%d:%d: %s", file, line-1+doc.Err.Line, doc.Err.Column, doc.Err.Message)
	}
	if o, ok := into.(runtime.Object); ok {
		if err := runtime.DefaultUnstructuredConverter.FromUnstructuredWithValidation(doc.Value, o, true); err != nil {
			return fmt.Errorf("%s:%d: %w", file, line, err)
		}
		return nil
	}
	raw, err := json.Marshal(doc.Value)
	if err != nil {
		return fmt.Errorf("%s:%d: %w", file, line, err)
	}
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.DisallowUnknownFields()
	if err := dec.Decode(into); err != nil {
		return fmt.Errorf("%s:%d: %w", file, line, err)
	}
	return nil
}

var usesVariable = regexp.MustCompile(`\bvariables\.([A-Za-z_][A-Za-z0-9_]*)`)

// complete makes a policy whole: its matchConstraints, the library's variables that it uses, and its paramKind.
func (l *library) complete(c *Control) error {
	spec := &c.Policy.Spec
	if c.Match != "" {
		m, ok := l.Match[c.Match]
		if !ok || spec.MatchConstraints != nil {
			return fmt.Errorf("match: %s: there is no such match in the library, or the policy has matchConstraints of its own", c.Match)
		}
		spec.MatchConstraints = m.DeepCopy()
	}
	if len(c.Parameters) > 0 && spec.ParamKind == nil && !c.ScanOnly() {
		spec.ParamKind = &admv1.ParamKind{APIVersion: "v1", Kind: "ConfigMap"}
	}
	used := map[string]bool{}
	note := func(text string) {
		for _, m := range usesVariable.FindAllStringSubmatch(text, -1) {
			used[m[1]] = true
		}
	}
	for _, v := range spec.Variables {
		note(v.Expression)
	}
	for _, v := range spec.Validations {
		note(v.Expression)
		note(v.MessageExpression)
	}
	for _, m := range spec.MatchConditions {
		note(m.Expression)
	}
	var add []admv1.Variable
	for _, v := range slices.Backward(l.Variables) { // those that others use stand first
		declared := slices.ContainsFunc(spec.Variables, func(own admv1.Variable) bool { return own.Name == v.Name })
		if used[v.Name] && !declared {
			note(v.Expression)
			add = append(add, v)
		}
	}
	slices.Reverse(add)
	spec.Variables = append(add, spec.Variables...)
	return nil
}
