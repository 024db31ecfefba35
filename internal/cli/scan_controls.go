// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/vigie-io/vigie/internal/posture/control"
	"github.com/vigie-io/vigie/internal/posture/engine"
	"github.com/vigie-io/vigie/internal/posture/scan"
)

// controlSet is which controls a command works with.
type controlSet struct {
	pick, skip, files, params []string
	target                    string
	source                    func() ([]*control.Control, error) // of those that come with vigie; nil: those of objects
	charts                    bool                               // what names no control is a value for charts
	values                    []string                           // those
}

// setUsage: a scan takes values of charts by the same flag.
func (s *controlSet) setUsage() string {
	usage := "CONTROL.PARAMETER=VALUE"
	if s.charts {
		usage += ", or KEY=VALUE for charts"
	}
	return usage + "; may be repeated"
}

type flagSet interface {
	StringArrayVar(p *[]string, name string, value []string, usage string)
	StringVar(p *string, name string, value string, usage string)
}

func (s *controlSet) flags(f flagSet) {
	_, newest := engine.Supported()
	f.StringArrayVar(&s.pick, "control", nil, "only these: an id, framework:NAME or severity:NAME (and worse); may be repeated")
	f.StringArrayVar(&s.skip, "skip", nil, "not these; may be repeated")
	f.StringArrayVar(&s.files, "controls", nil, "file or directory with controls of your own; may be repeated")
	f.StringArrayVar(&s.params, "set", nil, s.setUsage())
	f.StringVar(&s.target, "target", newest.String(), "Kubernetes version whose CEL is allowed")
}

// load reads the controls that come with vigie and those of the user, and picks.
func (s *controlSet) load() ([]*control.Control, error) {
	all, err := s.defaults()
	if err != nil {
		return nil, err
	}
	for _, path := range s.files {
		own, err := readControls(path)
		if err != nil {
			return nil, err
		}
		all = append(all, own...)
	}
	picked, err := control.Select(all, s.pick)
	if err != nil || len(s.skip) == 0 {
		return picked, err
	}
	skipped, err := control.Select(all, s.skip)
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(slices.Clone(picked), func(c *control.Control) bool { return slices.Contains(skipped, c) }), nil
}

func readControls(path string) ([]*control.Control, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("read controls: %w", err)
	}
	files := []string{path}
	if info.IsDir() {
		if files, err = filepath.Glob(filepath.Join(path, "*.y*ml")); err != nil {
			return nil, fmt.Errorf("read controls: %w", err)
		}
	}
	var all []*control.Control
	var errs []error
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			errs = append(errs, fmt.Errorf("read controls: %w", err))
			continue
		}
		c, err := control.Parse(file, text)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		all = append(all, c)
	}
	return all, errors.Join(errs...)
}

func (s *controlSet) judge() (*scan.Judge, error) {
	controls, err := s.load()
	if err != nil {
		return nil, err
	}
	var target engine.Version
	if n, err := fmt.Sscanf(s.target, "%d.%d", &target.Major, &target.Minor); n != 2 || err != nil {
		return nil, fmt.Errorf("--target %s: want a version as in 1.36", s.target)
	}
	params, err := s.parameters(controls)
	if err != nil {
		return nil, err
	}
	return scan.NewJudge(controls, target, params)
}

// parameters are what --set names: control → parameter → value.
func (s *controlSet) parameters(controls []*control.Control) (map[string]map[string]string, error) {
	params := map[string]map[string]string{}
	for _, p := range s.params {
		name, value, ok := strings.Cut(p, "=")
		id, parameter, dot := strings.Cut(name, ".")
		i := slices.IndexFunc(controls, func(c *control.Control) bool { return c.ID == id })
		switch {
		case s.charts && ok && i < 0:
			s.values = append(s.values, p)
			continue
		case !ok || !dot || i < 0:
			return nil, fmt.Errorf("--set %s: want CONTROL.PARAMETER=VALUE, of a control that is used", p)
		}
		if _, has := controls[i].Parameters[parameter]; !has {
			return nil, fmt.Errorf("--set %s: control %s has no parameter %q", p, id, parameter)
		}
		if params[id] == nil {
			params[id] = map[string]string{}
		}
		params[id][parameter] = value
	}
	return params, nil
}
