// SPDX-License-Identifier: Apache-2.0

package control

import (
	"fmt"
	"slices"

	"github.com/vigie-io/vigie/internal/posture/facts"
)

// Fix is how an object that fails a control is made good. Its edits are JSON patches whose paths are those of Fields: of a
// container they are for each container that is bad, and what is missing above a path is made.
type Fix struct {
	// Risk says what could stop working. A fix with a risk is made only for those who ask for it by name.
	Risk string `json:"risk,omitempty"`
	// Proof is what an agent must have seen for the risk to be none, see package facts.
	Proof string `json:"proof,omitempty"`
	// Default: the fix is also what should hold where a manifest says nothing. On the way into a cluster it is then made only there,
	// unless it was asked to overrule too. A fix that is none can do nothing but overrule.
	Default bool   `json:"default,omitempty"`
	Edits   []Edit `json:"edits"`
	// Admission are edits that an object needs besides on the way into a cluster: before a policy sees it, the API server has made more of
	// the field that is fixed, and what it made is refused without the field, or does the same by itself. No manifest has it.
	Admission []Edit `json:"admission,omitempty"`
	// Unless are values, by path, that the fix does not go with: it is not made where one stands. Several are a list. In a list
	// a value stands when it is one of its elements.
	Unless map[string]any `json:"unless,omitempty"`
}

// Without are the values that the fix does not go with at a path.
func (f *Fix) Without(path string) []any {
	if list, ok := f.Unless[path].([]any); ok {
		return list
	}
	return []any{f.Unless[path]}
}

// Edit is one change. Exactly one of Set, Append and Remove is given.
type Edit struct {
	Set    string `json:"set,omitempty"` // "found" is the field that the finding is about
	To     any    `json:"to,omitempty"`
	Copy   string `json:"copy,omitempty"` // the path of the value, in place of To
	Append string `json:"append,omitempty"`
	Remove string `json:"remove,omitempty"`
	Values []any  `json:"values,omitempty"` // Remove: not the whole list, but these elements
	Except []any  `json:"except,omitempty"` // Remove: not the whole list, but the elements that are none of these
	// When are values, by path, one of which must stand there for the edit to be made. Null is that nothing stands there, and a text
	// that ends with * is every text that begins so.
	When map[string][]any `json:"when,omitempty"`
}

// Found is the path of the field that a finding is about.
const Found = "found"

func (f *Fix) check() error {
	if f == nil {
		return nil
	}
	if len(f.Edits) == 0 {
		return fmt.Errorf("the fix has no edits")
	}
	if f.Proof != "" && (f.Risk == "" || !slices.Contains(facts.Proofs(), f.Proof)) {
		return fmt.Errorf("fix.proof %q: the proofs are %q, and go with a risk", f.Proof, facts.Proofs())
	}
	if f.Default && !slices.ContainsFunc(f.Edits, func(e Edit) bool { return e.Remove == "" && e.Set != Found }) {
		return fmt.Errorf("fix.default: the fix sets nothing that could be missing")
	}
	for i, e := range slices.Concat(f.Edits, f.Admission) {
		given := 0
		for _, path := range []string{e.Set, e.Append, e.Remove} {
			if path != "" {
				given++
			}
		}
		switch {
		case given != 1:
			return fmt.Errorf("fix.edits[%d]: give one of set, append and remove", i)
		case e.Remove == "" && (e.To == nil) == (e.Copy == ""):
			return fmt.Errorf("fix.edits[%d]: give to or copy", i)
		case e.Remove == "" && (e.Values != nil || e.Except != nil):
			return fmt.Errorf("fix.edits[%d]: values and except go with remove", i)
		}
	}
	return nil
}

// PodPath is where the objects of a kind have a pod's spec; nil when they have none.
func PodPath(kind string) []string {
	switch kind {
	case "Pod":
		return []string{"spec"}
	case "CronJob":
		return []string{"spec", "jobTemplate", "spec", "template", "spec"}
	case "PodTemplate":
		return []string{"template", "spec"}
	}
	if slices.Contains(PodKinds(), kind) {
		return []string{"spec", "template", "spec"}
	}
	return nil
}

// ContainerLists are the fields of a pod's spec that hold containers.
func ContainerLists() []string {
	return []string{"containers", "initContainers", "ephemeralContainers"}
}
