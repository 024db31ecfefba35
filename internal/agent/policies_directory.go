// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/vigie-io/vigie/internal/server"
)

// maxPolicyFile bounds a file of policies, in bytes.
const maxPolicyFile = 16 << 20

// policyFile is a file of the directory as it was read.
type policyFile struct {
	path, text string
	err        error
}

// reload brings the directory as it is now in force, whole, or leaves all as it is and says why. What did not change
// since it was read last is not tried again, unless anew.
func (s *policyStore) reload(ctx context.Context, anew bool) {
	s.changing.Lock()
	defer s.changing.Unlock()
	if s.trouble.notReady() != nil {
		return // start reads it
	}
	files := readPolicyFiles(s.Dir)
	if now := fingerprint(files); now != s.read || anew {
		s.read = now
		held, troubles := s.parseFiles(files)
		if len(troubles) == 0 {
			next := s.now.Load().withDirectory(held)
			err := errors.Join(s.clashes(held)...)
			if err == nil {
				err = s.change(ctx, next, fromDirectory)
			}
			troubles = s.troublesOf(err)
		}
		s.noteDirectory(len(held), troubles)
	}
}

// withDirectory is the set with other policies of the directory.
func (s *policySet) withDirectory(held []*heldPolicy) *policySet {
	next := s.clone()
	for name, p := range s.policies {
		if p.origin != fromAPI && p.origin != fromCluster {
			delete(next.policies, name)
		}
	}
	for _, p := range held {
		next.policies[p.Name] = p
	}
	return next
}

// clashes are policies of the directory that have the name of one of the API.
func (s *policyStore) clashes(held []*heldPolicy) []error {
	var errs []error
	for _, p := range held {
		other := s.now.Load().policies[p.Name]
		if other != nil && other.origin == fromCluster {
			errs = append(errs, placeOf(p, errors.New("one of this name is an object of the cluster: give this one another name")))
		}
		if other != nil && other.origin == fromAPI {
			errs = append(errs, placeOf(p, fmt.Errorf("one of this name was applied by the API: `vigie policy delete %s`, or give this one another name", p.Name)))
		}
	}
	return errs
}

// parseFiles reads the policies of all files. Troubles are all that keeps them from being brought in force.
func (s *policyStore) parseFiles(files []policyFile) ([]*heldPolicy, []fileTrouble) {
	var held []*heldPolicy
	var troubles []fileTrouble
	at := make(map[string]string)
	for _, f := range files {
		list, err := []*heldPolicy(nil), f.err
		if err == nil {
			list, err = s.parse(f.path, f.text, f.path)
		}
		for _, p := range list {
			if at[p.Name] != "" {
				err = errors.Join(err, fmt.Errorf("%s: policy %s is also at %s: give one of them another name", p.NameAt, p.Name, at[p.Name]))
			}
			at[p.Name] = p.NameAt
		}
		if err != nil {
			troubles = append(troubles, fileTrouble{f.path, err})
		}
		held = append(held, list...)
	}
	return held, troubles
}

// troublesOf sorts the problems of a change by the file that they are about, or the directory.
func (s *policyStore) troublesOf(err error) []fileTrouble {
	if err == nil {
		return nil
	}
	problems := []error{err}
	var joined interface{ Unwrap() []error }
	if errors.As(err, &joined) {
		problems = joined.Unwrap()
	}
	var troubles []fileTrouble
	for _, problem := range problems {
		path := s.Dir
		var placed *placedError
		if errors.As(problem, &placed) && placed.origin != fromAPI {
			path = placed.origin
		}
		if i := slices.IndexFunc(troubles, func(t fileTrouble) bool { return t.path == path }); i >= 0 {
			troubles[i].err = errors.Join(troubles[i].err, problem)
		} else {
			troubles = append(troubles, fileTrouble{path, problem})
		}
	}
	return troubles
}

// noteDirectory remembers and tells how it went.
func (s *policyStore) noteDirectory(policies int, troubles []fileTrouble) {
	news := s.trouble.directory(troubles)
	switch {
	case len(troubles) == 0:
		s.Log.Info("the policies of the directory are in force", "dir", s.Dir, "policies", policies)
	case news:
		for _, t := range troubles {
			s.Log.Error("the policies of the directory stay as they were", "file", t.path, "error", t.err)
		}
	}
}

// readPolicyFiles reads the files of policies in a directory, ordered by name: *.yaml and *.yml, but none that begins with
// a dot (editors' and Kubernetes' own). A directory that is not there has none.
func readPolicyFiles(dir string) []policyFile {
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return []policyFile{{path: dir, err: fmt.Errorf("read the policy directory: %w", err)}}
	}
	var files []policyFile
	for _, e := range entries {
		if !isPolicyFile(e.Name()) || e.IsDir() {
			continue
		}
		f := policyFile{path: filepath.Join(dir, e.Name())}
		f.text, f.err = readPolicyFile(f.path)
		if errors.Is(f.err, fs.ErrNotExist) && e.Type() != fs.ModeSymlink {
			continue // went away since the directory was listed; there is news of that
		}
		files = append(files, f)
	}
	return files
}

func isPolicyFile(name string) bool {
	return !strings.HasPrefix(name, ".") && slices.Contains([]string{".yaml", ".yml"}, filepath.Ext(name))
}

func readPolicyFile(path string) (string, error) {
	info, err := os.Stat(path)
	if err != nil {
		return "", err
	}
	if !info.Mode().IsRegular() {
		return "", fmt.Errorf("%s:1:1: is no regular file: remove it", path)
	}
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxPolicyFile+1))
	if err == nil && len(b) > maxPolicyFile {
		err = fmt.Errorf("%s:1:1: is larger than %d MiB: split it", path, maxPolicyFile>>20)
	}
	return string(b), err
}

// fingerprint tells whether files are the same as before.
func fingerprint(files []policyFile) string {
	h := fnv.New128a()
	for _, f := range files {
		fmt.Fprintf(h, "%q %d %v\n", f.path, len(f.text), f.err)
		_, _ = io.WriteString(h, f.text)
	}
	return string(h.Sum(nil))
}

// placedError is an error about one policy.
type placedError struct {
	origin string // of the policy
	err    error
}

// placeOf is an error about a policy, with its place.
func placeOf(p *heldPolicy, err error) error {
	return &placedError{p.origin, fmt.Errorf("%s: policy %s: %w", p.NameAt, p.Name, err)}
}

// Error implements error.
func (e *placedError) Error() string { return e.err.Error() }

// Unwrap implements errors.Unwrap.
func (e *placedError) Unwrap() error { return e.err }

// invalid reports whether err is about the policy itself, not about this host.
func invalid(err error) bool {
	var r *server.RefusedError
	return errors.As(err, &r) && r.Kind == server.Invalid
}
