// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// The sizes of the policies that are compared, in rules of each kind.
const (
	fewRules  = 10
	manyRules = 1000
)

// ruleSet is what a policy is written from. All of it denies, but Allowed.
type ruleSet struct {
	Name     string
	Unit     string // what it selects: a unit, or else a binary
	Binary   string
	Files    []string // may not be opened
	Programs []string // may not be executed
	Networks []string // CIDRs that may not be connected to
	Allowed  []string // CIDRs: only these may be connected to; nil for no such list
}

// yaml is the policy as a document. JSON is YAML too (YAML 1.2, 1.2).
func (r ruleSet) yaml() string {
	type object map[string]any
	spec := object{"mode": "enforce", "selector": object{"binary": r.Binary}}
	if r.Unit != "" {
		spec["selector"] = object{"unit": r.Unit}
	}
	var files, programs, networks, allowed []object
	for _, f := range r.Files {
		files = append(files, object{"path": f, "access": []string{"read", "write"}})
	}
	for _, p := range r.Programs {
		programs = append(programs, object{"path": p})
	}
	for _, n := range r.Networks {
		networks = append(networks, object{"to": object{"cidr": n}})
	}
	for _, n := range r.Allowed {
		allowed = append(allowed, object{"to": object{"cidr": n}})
	}
	if files != nil {
		spec["files"] = object{"deny": files}
	}
	if programs != nil {
		spec["processes"] = object{"deny": programs}
	}
	switch {
	case networks != nil:
		spec["network"] = object{"egress": object{"deny": networks}}
	case allowed != nil:
		spec["network"] = object{"egress": object{"allow": allowed}}
	}
	text, err := json.Marshal(object{"apiVersion": "vigie.io/v1alpha1", "kind": "WorkloadPolicy", "metadata": object{"name": r.Name}, "spec": spec})
	if err != nil {
		panic(err) // maps, lists and texts have a JSON
	}
	return string(text) + "\n"
}

// documents puts policies into one text.
func documents(sets []ruleSet) string {
	var b strings.Builder
	for _, s := range sets {
		b.WriteString("---\n")
		b.WriteString(s.yaml())
	}
	return b.String()
}

// deniedNetworks are n CIDRs of three lengths, none of which holds another or an address of loopback.
func deniedNetworks(n int) []string {
	out := make([]string, n)
	for i := range out {
		switch third, fourth := i/256, i%256; i % 3 {
		case 0:
			out[i] = fmt.Sprintf("10.%d.%d.0/24", third, fourth)
		case 1:
			out[i] = fmt.Sprintf("172.16.%d.%d/32", third, fourth)
		default:
			out[i] = fmt.Sprintf("192.168.%d.%d/30", i/64, i%64*4)
		}
	}
	return out
}

// files is a folder with files that no policy is about and files that policies deny. It is a file system of its own: being
// asked about its opens costs nobody else.
type files struct {
	dir    string
	open   string   // may always be opened
	denied []string // beside it
}

// makeDenied mounts a folder with n files that can be denied.
func (b *bench) makeDenied(n int) (*files, error) {
	f := &files{dir: filepath.Join(b.dir, "files"), denied: make([]string, n)}
	if err := os.MkdirAll(f.dir, 0o755); err != nil {
		return nil, fmt.Errorf("make the folder of files to open: %w", err)
	}
	if err := unix.Mount("vigie-bench", f.dir, "tmpfs", unix.MS_NODEV, "mode=0755"); err != nil {
		return nil, fmt.Errorf("mount the folder of files to open: %w", err)
	}
	f.open = filepath.Join(f.dir, "open")
	names := []string{f.open}
	for i := range f.denied {
		f.denied[i] = filepath.Join(f.dir, fmt.Sprintf("denied-%04d", i))
	}
	for _, name := range append(names, f.denied...) {
		if err := os.WriteFile(name, nil, 0o644); err != nil {
			f.remove()
			return nil, fmt.Errorf("make a file to open: %w", err)
		}
	}
	return f, nil
}

// flags keep an agent from being asked about opens elsewhere on the machine.
func (f *files) flags() []string { return []string{"--fanotify-mounts", f.dir} }

// remove unmounts the folder, also while a process that ends has a file of it open.
func (f *files) remove() { _ = unix.Unmount(f.dir, unix.MNT_DETACH) }

// policies of n rules of each kind about the bench's worker. What its loads do is in none of them.
func (b *bench) policyOf(n int, f *files) ruleSet {
	return ruleSet{Name: "bench", Binary: b.worker, Files: f.denied[:n], Networks: append(deniedNetworks(n-1), deniedHost)}
}

// deniedHost is an address of loopback that the policies deny, to see that they are in force.
const deniedHost = "127.77.0.1"
