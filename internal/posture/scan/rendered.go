// SPDX-License-Identifier: Apache-2.0

package scan

import (
	"bytes"
	"fmt"
	"maps"

	"github.com/vigie-io/vigie/internal/posture/manifest"
	"github.com/vigie-io/vigie/internal/posture/render"
)

// chart renders one. What does not render is a problem.
func (s *source) chart(path string) error {
	s.files++
	c, err := render.OpenChart(path)
	if err != nil {
		s.fail(path, err)
		return nil
	}
	if s.values == nil {
		if s.values, err = render.ValuesOf(s.Values); err != nil {
			return fmt.Errorf("scan: %w", err)
		}
	}
	manifests, problems, err := c.Render(s.ctx, maps.Clone(s.values), s.Values.Version)
	if err != nil {
		s.fail(path, err)
		return nil
	}
	return s.rendered(manifests, problems)
}

func (s *source) overlay(dir string) error {
	if render.IsComponent(dir) {
		s.problem(Problem{File: render.OverlayIn(dir), Line: 1, Column: 1, Note: true, Message: "a component that no overlay here uses: it is nothing by itself"})
		return nil
	}
	s.files++
	manifests, problems := render.Overlay(dir)
	return s.rendered(manifests, problems)
}

func (s *source) rendered(manifests []render.Manifest, problems []render.Problem) error {
	for _, p := range problems {
		s.problem(Problem{File: p.File, Line: p.Line, Column: p.Column, Message: p.Message, Note: p.Note})
	}
	for _, m := range manifests {
		if err := s.texts(manifest.NewReader(bytes.NewReader(m.Text), m.File), m.File, m.Locate); err != nil {
			return err
		}
	}
	return nil
}
