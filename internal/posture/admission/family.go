// SPDX-License-Identifier: Apache-2.0

package admission

import (
	"cmp"
	"encoding/json"
	"maps"
	"slices"
	"strings"

	admv1 "k8s.io/api/admissionregistration/v1"

	"github.com/vigie-io/vigie/internal/posture/control"
)

// atom is the smallest thing that rules name: one operation on one resource.
type atom struct {
	group, version, resource string // resource with its subresource, as in pods/ephemeralcontainers
	operation                admv1.OperationType
}

func (a atom) key() string { return a.group + "/" + a.version + "/" + a.resource }

// rule is a control on its way into a policy.
type rule struct {
	control *control.Control
	atoms   []atom // nil: its constraints say more than atoms can, so it has a family of its own
}

// family are kinds that controls name together. A request has one resource and so is put before one family's policies.
type family struct {
	name        string
	atoms       []atom
	constraints *admv1.MatchResources
	rules       []*rule
}

func compare(a, b string) int { return cmp.Compare(a, b) }

// atomsOf takes constraints apart; nil when they hold selectors, names, exclusions or wildcards.
func atomsOf(m *admv1.MatchResources) []atom {
	if len(m.ExcludeResourceRules) > 0 || m.NamespaceSelector != nil || m.ObjectSelector != nil || m.MatchPolicy != nil && *m.MatchPolicy != admv1.Equivalent {
		return nil
	}
	var out []atom
	for _, r := range m.ResourceRules {
		if len(r.ResourceNames) > 0 || r.Scope != nil && *r.Scope != admv1.AllScopes {
			return nil
		}
		for _, g := range r.APIGroups {
			for _, v := range r.APIVersions {
				for _, res := range r.Resources {
					for _, op := range r.Operations {
						a := atom{g, v, res, op}
						if strings.Contains(a.key(), "*") || op == admv1.OperationAll {
							return nil
						}
						if !slices.Contains(out, a) {
							out = append(out, a)
						}
					}
				}
			}
		}
	}
	return out
}

// families gives every atom to one family: to that of the constraints which most controls have. What looks at pods and
// at services too is then judged in both families, with what is not for it passed over.
func families(rules []*rule) []*family {
	bySet := map[string][]*rule{}
	var out []*family
	for _, r := range rules {
		if r.atoms == nil {
			out = append(out, &family{name: r.control.ID, constraints: r.control.Policy.Spec.MatchConstraints, rules: []*rule{r}})
			continue
		}
		key, err := json.Marshal(names(r.atoms))
		if err != nil {
			continue // strings always can
		}
		bySet[string(key)] = append(bySet[string(key)], r)
	}
	sets := slices.SortedFunc(maps.Keys(bySet), func(a, b string) int {
		return cmp.Or(len(bySet[b])-len(bySet[a]), compare(a, b))
	})
	owner := map[atom]*family{}
	for _, set := range sets {
		f := &family{}
		for _, a := range bySet[set][0].atoms {
			if owner[a] == nil {
				owner[a] = f
				f.atoms = append(f.atoms, a)
			}
		}
		if len(f.atoms) > 0 {
			out = append(out, f)
		}
	}
	for _, r := range rules {
		seen := map[*family]bool{}
		for _, a := range r.atoms {
			if f := owner[a]; !seen[f] {
				seen[f] = true
				f.rules = append(f.rules, r)
			}
		}
	}
	taken := map[string]bool{}
	for _, f := range out {
		f.finish(taken)
	}
	slices.SortFunc(out, func(a, b *family) int { return compare(a.name, b.name) })
	return out
}

func names(atoms []atom) []string {
	var out []string
	for _, a := range atoms {
		out = append(out, a.key()+" "+string(a.operation))
	}
	slices.Sort(out)
	return out
}

// finish names a family by its first resource, and writes its constraints.
func (f *family) finish(taken map[string]bool) {
	if f.constraints == nil {
		f.name = f.atoms[0].resource
		f.constraints = constraints(f.atoms)
	}
	f.name = strings.NewReplacer("/", "-", "*", "all").Replace(f.name)
	for base, a := f.name, 0; taken[f.name]; a++ {
		f.name = base + "-" + strings.ReplaceAll(cmp.Or(f.version(), "own"), ".", "-") + strings.Repeat("x", a)
	}
	taken[f.name] = true
}

func (f *family) version() string {
	if len(f.atoms) == 0 {
		return ""
	}
	return f.atoms[0].version
}

// constraints are atoms as rules: one for each group, version and set of operations.
func constraints(atoms []atom) *admv1.MatchResources {
	operations := map[string][]string{} // group/version/resource → operations
	byKey := map[string]atom{}
	for _, a := range atoms {
		operations[a.key()] = append(operations[a.key()], string(a.operation))
		byKey[a.key()] = a
	}
	equivalent := admv1.Equivalent
	out := &admv1.MatchResources{MatchPolicy: &equivalent}
	index := map[string]int{}
	for _, key := range slices.Sorted(maps.Keys(operations)) {
		a, ops := byKey[key], operations[key]
		slices.Sort(ops)
		id := a.group + "/" + a.version + " " + strings.Join(ops, ",")
		i, ok := index[id]
		if !ok {
			i = len(out.ResourceRules)
			index[id] = i
			r := admv1.NamedRuleWithOperations{}
			r.APIGroups, r.APIVersions = []string{a.group}, []string{a.version}
			for _, op := range ops {
				r.Operations = append(r.Operations, admv1.OperationType(op))
			}
			out.ResourceRules = append(out.ResourceRules, r)
		}
		out.ResourceRules[i].Resources = append(out.ResourceRules[i].Resources, a.resource)
	}
	return out
}
