// SPDX-License-Identifier: Apache-2.0

package scan

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"math/rand"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	metafuzzer "k8s.io/apimachinery/pkg/apis/meta/fuzzer"

	"k8s.io/apimachinery/pkg/api/apitesting/fuzzer"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/client-go/kubernetes/scheme"
	"sigs.k8s.io/yaml"

	"github.com/vigie-io/vigie/internal/posture/engine"
)

var update = flag.Bool("update", false, "write the corpus anew from the types of the API")

const corpus = "testdata/corpus"

// builtIn are the kinds of the API that people write: no lists, and nothing that is only asked or answered.
func builtIn() []schema.GroupVersionKind {
	var out []schema.GroupVersionKind
	for gvk, t := range scheme.Scheme.AllKnownTypes() {
		_, hasMeta := t.FieldByName("ObjectMeta")
		if !hasMeta || gvk.Version == runtime.APIVersionInternal || strings.HasSuffix(gvk.Kind, "List") || strings.HasSuffix(gvk.Kind, "Options") || strings.HasSuffix(gvk.Kind, "Review") {
			continue
		}
		out = append(out, gvk)
	}
	slices.SortFunc(out, func(a, b schema.GroupVersionKind) int { return strings.Compare(a.String(), b.String()) })
	return out
}

// fill gives every field a value; of lists and maps one element.
func fill(v reflect.Value, depth int) {
	switch special := v.Addr().Interface().(type) {
	case *resource.Quantity:
		*special = resource.MustParse("2")
		return
	case *intstr.IntOrString:
		*special = intstr.FromString("50%")
		return
	case *metav1.Time:
		return
	case *runtime.RawExtension:
		special.Raw = []byte(`{"a":1}`)
		return
	case *metav1.TypeMeta, *metav1.FieldsV1, *[]metav1.ManagedFieldsEntry, *[]metav1.OwnerReference:
		return
	}
	switch v.Kind() {
	case reflect.Pointer:
		if depth > 0 {
			v.Set(reflect.New(v.Type().Elem()))
			fill(v.Elem(), depth-1)
		}
	case reflect.Struct:
		for i := range v.NumField() {
			if f := v.Field(i); f.CanSet() && v.Type().Field(i).Name != "Status" && depth > 0 {
				fill(f, depth-1)
			}
		}
	case reflect.Slice:
		if v.Type().Elem().Kind() == reflect.Uint8 {
			v.SetBytes([]byte("x"))
		} else if depth > 0 {
			v.Set(reflect.MakeSlice(v.Type(), 1, 1))
			fill(v.Index(0), depth-1)
		}
	case reflect.Map:
		if depth > 0 {
			key, value := reflect.New(v.Type().Key()).Elem(), reflect.New(v.Type().Elem()).Elem()
			fill(key, depth-1)
			fill(value, depth-1)
			v.Set(reflect.MakeMap(v.Type()))
			v.SetMapIndex(key, value)
		}
	case reflect.String:
		v.SetString("a")
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Int, reflect.Int32, reflect.Int64:
		v.SetInt(1)
	}
}

// writeCorpus writes an object of each kind with all its fields, down to a depth.
func writeCorpus(t *testing.T) {
	t.Helper()
	byGroup := map[string]*bytes.Buffer{}
	for _, gvk := range builtIn() {
		o, err := scheme.Scheme.New(gvk)
		if err != nil {
			t.Fatal(err)
		}
		fill(reflect.ValueOf(o).Elem(), 9)
		o.GetObjectKind().SetGroupVersionKind(gvk)
		text, err := yaml.Marshal(o)
		if err != nil {
			t.Fatal(err)
		}
		group := gvk.Group
		if group == "" {
			group = "core"
		}
		if byGroup[group] == nil {
			byGroup[group] = bytes.NewBufferString("# SPDX-License-Identifier: Apache-2.0\n# Written by go test -update: every field of every kind.\n")
		}
		fmt.Fprintf(byGroup[group], "---\n%s", text)
	}
	for group, b := range byGroup {
		if err := os.WriteFile(filepath.Join(corpus, group+".yaml"), b.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// TestCorpus scans an object of every built-in kind with all its fields, and what is odd in other ways, by all controls. Nothing fails to be
// read that an API server would read, and what cannot be evaluated is told.
func TestCorpus(t *testing.T) {
	if *update {
		writeCorpus(t)
	}
	_, newest := engine.Supported()
	r, err := defaultJudge(t, newest).Run(t.Context(), []string{corpus}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if r.Objects < 150 {
		t.Errorf("%d objects, want 150", r.Objects)
	}
	for _, p := range r.Problems {
		if !p.Note && !strings.HasSuffix(p.File, "odd.yaml") {
			t.Errorf("%s:%d: %s %s", p.File, p.Line, p.Control, p.Message)
		}
		if p.Line < 1 || p.Column < 1 {
			t.Errorf("a problem without a place: %+v", p)
		}
	}
	for _, f := range r.Findings {
		if f.Line < 1 || f.Column < 1 || f.Message == "" || f.File == "" {
			t.Errorf("a finding without a place: %+v", f)
		}
	}
}

// random are objects of all built-in kinds, filled by the API's own fuzzer.
func random(t testing.TB, seed int64, n int) []byte {
	t.Helper()
	filler := fuzzer.FuzzerFor(metafuzzer.Funcs, rand.NewSource(seed), scheme.Codecs)
	kinds := builtIn()
	pick := rand.New(rand.NewSource(seed)) //nolint:gosec // a test is repeated by its seed
	var b bytes.Buffer
	for range n {
		gvk := kinds[pick.Intn(len(kinds))]
		o, err := scheme.Scheme.New(gvk)
		if err != nil {
			t.Fatal(err)
		}
		filler.Fill(o)
		o.GetObjectKind().SetGroupVersionKind(gvk)
		text, err := json.Marshal(o)
		if err != nil {
			continue // the fuzzer makes values that have no text
		}
		b.WriteString("---\n")
		b.Write(text)
		b.WriteByte('\n')
	}
	return b.Bytes()
}

// FuzzBuiltInKinds never crashes, and takes every object that the API's own decoder takes. As a test it runs its first seeds.
func FuzzBuiltInKinds(f *testing.F) {
	for seed := range int64(8) {
		f.Add(seed)
	}
	_, newest := engine.Supported()
	j := defaultJudge(f, newest)
	f.Fuzz(func(t *testing.T, seed int64) {
		text := random(t, seed, 40)
		r, err := j.Run(t.Context(), []string{Stdin}, bytes.NewReader(text))
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range r.Problems {
			if !p.Note && p.Control == "" {
				t.Errorf("line %d: %s", p.Line, p.Message)
			}
		}
		for i, tally := range r.Tallies {
			if tally.Passed+tally.Failed+tally.Unevaluated > r.Objects {
				t.Errorf("%s judged more than there is: %+v", r.Controls[i].ID, tally)
			}
		}
	})
}
