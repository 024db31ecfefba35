// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"errors"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/vigie-io/vigie/internal/server"
)

// policyTrouble is what keeps policies from being in force as they were written. The agent says it until it is put right.
type policyTrouble struct {
	mu       sync.Mutex
	starting bool
	files    []fileTrouble            // of the directory as it is now
	failed   map[string]*failedPolicy // of the API, when the agent started; by name
	others   []string
}

// fileTrouble is what is wrong with a file of the directory, or with the directory itself.
type fileTrouble struct {
	path string
	err  error
}

// failedPolicy is a policy of the API that was in force when the agent stopped, and could not be when it started.
type failedPolicy struct {
	saved savedPolicy
	doc   Document
	err   error
}

// notReady is an error until the store has been started.
func (t *policyTrouble) notReady() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.starting {
		return server.Refuse(server.NotReady, errors.New("the agent is starting: try again in a second"))
	}
	return nil
}

func (t *policyTrouble) started() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.starting = false
}

// directory replaces what is wrong with the directory, and reports whether that is news.
func (t *policyTrouble) directory(files []fileTrouble) (news bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	same := slices.EqualFunc(t.files, files, func(a, b fileTrouble) bool { return a.path == b.path && a.err.Error() == b.err.Error() })
	t.files = files
	return !same
}

// other adds what is wrong with neither a file nor a policy.
func (t *policyTrouble) other(problem string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.others = append(t.others, problem)
}

// fail notes a policy of the API that is not in force.
func (t *policyTrouble) fail(f *failedPolicy) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.failed == nil {
		t.failed = make(map[string]*failedPolicy)
	}
	t.failed[f.doc.Name] = f
}

func (t *policyTrouble) failedPolicy(name string) *failedPolicy {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.failed[name]
}

// drop forgets failed policies, of the names of others, until undo is called.
func (t *policyTrouble) drop(instead ...*heldPolicy) (undo func()) {
	t.mu.Lock()
	defer t.mu.Unlock()
	before := maps.Clone(t.failed)
	for _, p := range instead {
		delete(t.failed, p.Name)
	}
	return func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		t.failed = before
	}
}

// leftovers are the failed policies as they were saved.
func (t *policyTrouble) leftovers() []savedPolicy {
	t.mu.Lock()
	defer t.mu.Unlock()
	var list []savedPolicy
	for _, name := range slices.Sorted(maps.Keys(t.failed)) {
		list = append(list, t.failed[name].saved)
	}
	return list
}

// ofFile is what is wrong with a file; empty when nothing is.
func (t *policyTrouble) ofFile(path string) string {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, f := range t.files {
		if f.path == path {
			return f.err.Error()
		}
	}
	return ""
}

// list shows as policies what could not be brought in force, where no policy in force shows it.
func (t *policyTrouble) list(inForce *policySet) []server.Policy {
	shown := make(map[string]bool)
	for _, p := range inForce.policies {
		shown[p.origin] = true
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	var list []server.Policy
	for _, f := range t.files {
		if !shown[f.path] {
			list = append(list, server.Policy{Name: nameOfFile(f.path), Source: f.path, State: server.PolicyFailed, Message: f.err.Error()})
		}
	}
	for name, f := range t.failed {
		list = append(list, server.Policy{Name: name, Kind: f.doc.Kind, Source: fromAPI, YAML: f.saved.YAML, State: server.PolicyFailed, Message: f.err.Error()})
	}
	return list
}

func nameOfFile(path string) string {
	return strings.TrimSuffix(filepath.Base(path), filepath.Ext(path))
}

// problems says it all in lines.
func (t *policyTrouble) problems() []string {
	t.mu.Lock()
	defer t.mu.Unlock()
	var list []string
	for _, f := range t.files {
		for line := range strings.SplitSeq(f.err.Error(), "\n") {
			list = append(list, "the policies of the directory stay as they were: "+line)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(t.failed)) {
		list = append(list, "policy "+name+" is not in force: "+t.failed[name].err.Error()+"; apply it anew or delete it")
	}
	return append(list, t.others...)
}
