// SPDX-License-Identifier: Apache-2.0

package admission

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/vigie-io/vigie/internal/posture/control"
	"github.com/vigie-io/vigie/internal/posture/exception"
)

// Settings is what an administrator chose: what `vigie admit apply` notes in the cluster, so that rollout, status and the
// controller know it.
type Settings struct {
	Controls []string                     `json:"controls,omitempty"` // as for --control; none is all
	Skip     []string                     `json:"skip,omitempty"`
	Set      map[string]map[string]string `json:"set,omitempty"` // control → parameter → value
	Step     Step                         `json:"step"`          // of controls that Steps does not name
	Steps    map[string]Step              `json:"steps,omitempty"`
	Reached  map[string]Reached           `json:"reached,omitempty"`
	Levels   *LevelSettings               `json:"podSecurity,omitempty"`
	Except   []string                     `json:"exceptNamespaces"`
	Fixes    []string                     `json:"fixes,omitempty"` // as ParseFix reads them
	// Own are the texts of controls that do not come with vigie, by id.
	Own map[string]string `json:"own,omitempty"`
}

// Reached is the step of a control, and since when it is there.
type Reached struct {
	Step  Step      `json:"step"`
	Since time.Time `json:"since"`
}

// LevelSettings are Levels as they are written.
type LevelSettings struct {
	Label   string `json:"label"`
	Default string `json:"default"`
}

// DefaultExcept are namespaces that no policy should be able to break.
func DefaultExcept() []string {
	return []string{"kube-node-lease", "kube-public", "kube-system", "vigie-system"}
}

// DefaultLevelLabel is the label that says a namespace's level.
const DefaultLevelLabel = "vigie.io/pod-security"

// Check finds what cannot be.
func (s *Settings) Check() error {
	if _, err := ParseStep(string(s.Step)); err != nil {
		return err
	}
	for id, step := range s.Steps {
		if _, err := ParseStep(string(step)); err != nil {
			return fmt.Errorf("control %s: %w", id, err)
		}
	}
	if s.Levels != nil && (s.Levels.Label == "" || !slices.Contains(LevelNames(), s.Levels.Default)) {
		return errors.New("podSecurity: give label, and as default privileged, baseline or restricted")
	}
	return nil
}

// Chosen are the controls that the settings name, those of the administrator among them.
func (s *Settings) Chosen() (chosen, all []*control.Control, err error) {
	all, err = control.Default()
	if err != nil {
		return nil, nil, err
	}
	for _, id := range slices.Sorted(maps.Keys(s.Own)) {
		own, err := control.Parse("own/"+id, []byte(s.Own[id]))
		if err != nil {
			return nil, nil, err
		}
		all = append(all, own)
	}
	chosen, err = control.Select(all, s.Controls)
	if err != nil {
		return nil, nil, err
	}
	if len(s.Skip) > 0 {
		skipped, err := control.Select(all, s.Skip)
		if err != nil {
			return nil, nil, err
		}
		chosen = slices.DeleteFunc(slices.Clone(chosen), func(c *control.Control) bool { return slices.Contains(skipped, c) })
	}
	return chosen, all, nil
}

// Plan is what the settings mean now. errs are exceptions that excuse nothing, because they name what is not there.
func (s *Settings) Plan(exceptions []*exception.Exception, now time.Time) (p Plan, errs []error, err error) {
	if err := s.Check(); err != nil {
		return Plan{}, nil, err
	}
	chosen, all, err := s.Chosen()
	if err != nil {
		return Plan{}, nil, err
	}
	set, errs := exception.NewSet(exceptions, all)
	p = Plan{Controls: chosen, Params: s.Set, Step: s.Step, Steps: s.Steps, Except: s.Except, Exceptions: set, Now: now}
	for _, text := range s.Fixes {
		f, err := ParseFix(text, all)
		if err != nil {
			return Plan{}, nil, err
		}
		p.Fixes = append(p.Fixes, f)
	}
	if s.Levels != nil {
		p.Levels = &Levels{Label: s.Levels.Label, Default: s.Levels.Default}
	}
	return p, errs, nil
}

// StepOf is the step of a control.
func (s *Settings) StepOf(id string) Step {
	p := Plan{Step: s.Step, Steps: s.Steps}
	return p.stepOf(id)
}

// Arrived notes when controls came to the steps that a plan has them at.
func (s *Settings) Arrived(p Plan, now time.Time) {
	reached := make(map[string]Reached, len(p.Controls))
	for _, c := range p.Controls {
		r := s.Reached[c.ID]
		if step := p.stepOf(c.ID); r.Step != step {
			r = Reached{Step: step, Since: now.UTC().Truncate(time.Second)}
		}
		reached[c.ID] = r
	}
	s.Reached = reached
}
