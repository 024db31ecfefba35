// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"time"
)

// savedPolicies is what survives a restart: one file, so that it changes as a whole.
type savedPolicies struct {
	Version int `json:"version"` // savedVersion
	// API are the policies that came by the API.
	API []savedPolicy `json:"api,omitempty"`
	// Directory is what was in force of the directory, for a start at which it is broken.
	Directory []savedPolicy         `json:"directory,omitempty"`
	Modes     map[string]modeChange `json:"modes,omitempty"`
}

// savedPolicy is one YAML document.
type savedPolicy struct {
	Origin  string    `json:"origin"` // heldPolicy.origin
	Source  string    `json:"source"` // what errors call it
	Applied time.Time `json:"applied"`
	YAML    string    `json:"yaml"`
}

const (
	savedVersion = 1
	savedName    = "policies.json"
)

// start brings in force what was when the agent stopped, as the directory says now. Nothing is in force yet, so that
// what cannot be is told and the rest is: where the directory as it is cannot, its policies are those of before.
func (s *policyStore) start(ctx context.Context) {
	s.changing.Lock()
	defer s.changing.Unlock()
	defer s.trouble.started()
	saved := s.load()
	api, broken := s.parseSaved(saved.API)
	for _, f := range broken {
		s.failed(f)
	}
	files := readPolicyFiles(s.Dir)
	s.read = fingerprint(files)
	held, troubles := s.parseFiles(files)
	if len(troubles) == 0 {
		troubles = s.startWith(ctx, held, api, saved.Modes)
	}
	if len(troubles) > 0 {
		before, _ := s.parseSaved(saved.Directory)
		if len(s.startWith(ctx, before, api, saved.Modes)) > 0 {
			s.startWith(ctx, nil, api, saved.Modes)
		}
	}
	if len(held)+len(troubles) > 0 {
		s.noteDirectory(len(held), troubles)
	}
}

// startWith brings policies of the directory in force, all or none, and with them each of the API that can be. It
// returns what is wrong with those of the directory.
func (s *policyStore) startWith(ctx context.Context, directory, api []*heldPolicy, modes map[string]modeChange) []fileTrouble {
	bring := func(list ...*heldPolicy) error {
		next := s.now.Load().clone()
		maps.Copy(next.modes, modes)
		for _, p := range list {
			if other := next.policies[p.Name]; other != nil && other.origin != p.origin {
				return placeOf(p, fmt.Errorf("one of this name is kept in %s", other.origin))
			}
			next.policies[p.Name] = p
		}
		return s.change(ctx, next, fromDirectory)
	}
	if bring(slices.Concat(directory, api)...) == nil {
		return nil
	}
	if err := bring(directory...); err != nil {
		return s.troublesOf(err)
	}
	for _, p := range api {
		s.trouble.fail(&failedPolicy{saved: p.saved(), doc: p.Document, err: errors.New("it was not tried yet")})
	}
	for _, p := range api {
		back := s.trouble.drop(p)
		if err := bring(p); err != nil {
			back()
			s.failed(&failedPolicy{saved: p.saved(), doc: p.Document, err: err})
		}
	}
	return nil
}

func (s *policyStore) failed(f *failedPolicy) {
	s.trouble.fail(f)
	s.Log.Error("a policy that the API had applied is not in force", "policy", f.doc.Name, "error", f.err)
}

// parseSaved reads saved policies, and tells those that cannot be read any more.
func (s *policyStore) parseSaved(list []savedPolicy) (held []*heldPolicy, broken []*failedPolicy) {
	for _, saved := range list {
		got, err := s.parse(saved.Source, saved.YAML, saved.Origin)
		if err == nil && len(got) != 1 {
			err = fmt.Errorf("%d policies in the place of one", len(got))
		}
		if err != nil {
			f := &failedPolicy{saved: saved, err: err}
			if docs, _ := Documents(saved.Source, saved.YAML); len(docs) > 0 {
				f.doc = docs[0]
			}
			broken = append(broken, f)
			continue
		}
		got[0].applied = saved.Applied
		held = append(held, got[0])
	}
	return held, broken
}

func (p *heldPolicy) saved() savedPolicy {
	return savedPolicy{Origin: p.origin, Source: p.Source, Applied: p.applied, YAML: p.Text}
}

// load reads what the agent before this one left. A file that cannot be read is put aside, and told.
func (s *policyStore) load() savedPolicies {
	var saved savedPolicies
	path := filepath.Join(s.State, savedName)
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return saved
	}
	if err == nil {
		err = json.Unmarshal(b, &saved)
	}
	if err == nil && saved.Version != savedVersion {
		err = fmt.Errorf("it has version %d, and this agent reads %d", saved.Version, savedVersion)
	}
	if err == nil {
		return saved
	}
	aside := path + ".unreadable"
	problem := fmt.Sprintf("the policies that the API had applied are not in force, %s cannot be read: %v: apply them anew", path, err)
	if err := os.Rename(path, aside); err == nil {
		problem += "; the file is kept as " + aside
	}
	s.trouble.other(problem)
	s.Log.Error("saved policies cannot be read", "file", path, "kept_as", aside, "error", err)
	return savedPolicies{}
}

// savedFile is a new version of the saved policies that has not taken the place of the old one.
type savedFile struct{ temporary, path string }

// prepare begins to write down what a set needs after a restart, beside the old file, and returns what waits for it: a disk
// takes as long as the change itself.
func (s *policyStore) prepare(next *policySet) (wait func() (*savedFile, error)) {
	var file *savedFile
	var err error
	done := make(chan struct{})
	go func() {
		defer close(done)
		file, err = s.write(next)
	}()
	return func() (*savedFile, error) {
		<-done
		return file, err
	}
}

// write is prepare's work. Nil without an error: there is nothing to keep, and was nothing.
func (s *policyStore) write(next *policySet) (*savedFile, error) {
	saved := savedPolicies{Version: savedVersion, Modes: next.modes, API: s.trouble.leftovers()}
	for _, p := range next.sorted() {
		switch p.origin {
		case fromCluster: // is written down where the objects are
		case fromAPI:
			saved.API = append(saved.API, p.saved())
		default:
			saved.Directory = append(saved.Directory, p.saved())
		}
	}
	path := filepath.Join(s.State, savedName)
	if len(saved.API)+len(saved.Directory) == 0 {
		if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
			return nil, nil // nothing, as before
		}
	}
	b, err := json.Marshal(saved)
	if err != nil {
		return nil, fmt.Errorf("save policies: %w", err)
	}
	if err := os.MkdirAll(s.State, 0o750); err != nil {
		return nil, fmt.Errorf("save policies: %w", err)
	}
	f := &savedFile{temporary: path + ".new", path: path}
	if err := writeSynced(f.temporary, b); err != nil {
		f.discard()
		return nil, fmt.Errorf("save policies: %w", err)
	}
	return f, nil
}

func writeSynced(path string, b []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	return errors.Join(err, f.Sync(), f.Close())
}

// commit puts the file in the place of the old one, for good.
func (f *savedFile) commit() error {
	if f == nil {
		return nil
	}
	if err := os.Rename(f.temporary, f.path); err != nil {
		return fmt.Errorf("save policies: %w", err)
	}
	dir, err := os.Open(filepath.Dir(f.path))
	if err != nil {
		return fmt.Errorf("save policies: %w", err)
	}
	defer dir.Close()
	if err := dir.Sync(); err != nil {
		return fmt.Errorf("save policies: %w", err)
	}
	return nil
}

// discard removes a file that did not take its place.
func (f *savedFile) discard() {
	if f != nil {
		os.Remove(f.temporary)
	}
}
