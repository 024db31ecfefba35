// SPDX-License-Identifier: Apache-2.0

package agreement

import (
	"fmt"
	"strings"
	"testing"

	admv1 "k8s.io/api/admissionregistration/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apiserver/pkg/admission/plugin/policy/validating"

	"github.com/vigie-io/vigie/internal/posture/admission"
	"github.com/vigie-io/vigie/internal/posture/control"
	"github.com/vigie-io/vigie/internal/posture/engine"
	"github.com/vigie-io/vigie/internal/posture/schema"
)

// TestTypesAreCheckedAsTheAPIServerDoes puts policies of controls with a wrong field before the API server's own checker of types and before ours, and requires
// the same expressions for the same kinds. That one is bound to the newest language, looks at validations alone, and takes its time.
func TestTypesAreCheckedAsTheAPIServerDoes(t *testing.T) {
	types, err := schema.Builtin()
	if err != nil {
		t.Fatal(err)
	}
	mapper := meta.NewDefaultRESTMapper(nil)
	for _, kind := range types.Kinds() {
		mapper.Add(kind, meta.RESTScopeNamespace)
	}
	checker := &validating.TypeChecker{SchemaResolver: types, RestMapper: mapper}
	all, err := control.Default()
	if err != nil {
		t.Fatal(err)
	}
	_, newest := engine.Supported()
	const every = 12
	policies, warnings := 0, 0
	for i, c := range all {
		if c.ScanOnly() || i%every != 0 { // what params the former have no API server knows
			continue
		}
		wrong := c.Policy.DeepCopy()
		wrong.Spec.Validations = append(wrong.Spec.Validations, admv1.Validation{Expression: "object.metadata.nam != ''"},
			admv1.Validation{Expression: "object.metadata.generation == ''"})
		policies++
		fields, err := runtime.DefaultUnstructuredConverter.ToUnstructured(wrong)
		if err != nil {
			t.Fatal(err)
		}
		fields["apiVersion"], fields["kind"] = "admissionregistration.k8s.io/v1", "ValidatingAdmissionPolicy"
		doubts, _, err := admission.Check([]map[string]any{fields}, newest, nil, types)
		if err != nil {
			t.Fatal(err)
		}
		got, want := map[string]bool{}, map[string]bool{}
		for _, d := range doubts {
			if !d.Types {
				t.Errorf("%s: %+v", c.ID, d)
			}
			for _, kind := range types.Kinds() {
				where, rest, _ := strings.Cut(d.Message, ":")
				name := strings.TrimPrefix(kind.GroupVersion().String()+" "+kind.Kind, "/")
				if _, of, _ := strings.Cut(rest, "\n(of "); strings.HasPrefix(where, "validations") && strings.Contains(", "+strings.TrimSuffix(of, ")")+",", ", "+name+",") {
					got[fmt.Sprint("spec.", where, " ", kind)] = true
				}
			}
		}
		for _, w := range checker.Check(wrong) {
			for _, kind := range types.Kinds() {
				if strings.HasPrefix(w.Warning, kind.String()+":") || strings.Contains(w.Warning, "\n"+kind.String()+":") {
					want[fmt.Sprint(w.FieldRef, " ", kind)] = true
				}
			}
		}
		warnings += len(want)
		for k := range want {
			if !got[k] {
				t.Errorf("%s: the API server warns of %s", c.ID, k)
			}
		}
		for k := range got {
			if !want[k] {
				t.Errorf("%s: the API server does not warn of %s", c.ID, k)
			}
		}
	}
	t.Logf("%d policies, %d warnings", policies, warnings)
	if policies < 8 || warnings < 50 {
		t.Errorf("only %d policies with %d warnings were compared", policies, warnings)
	}
}
