// SPDX-License-Identifier: Apache-2.0

// Package node looks at the host that a cluster's components run on. In: command lines in /proc, the configuration files they
// name, and owners and modes of files. Out: one object of kind Host, which controls judge like any other: see controls/.
package node

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"sigs.k8s.io/yaml"
)

// APIVersion and Kind are those of the object.
const (
	APIVersion = "node.vigie.io/v1alpha1"
	Kind       = "Host"
)

// Host is where to look. The zero value is this machine.
type Host struct {
	Root string // of the file system; empty: /
	Proc string // empty: Root/proc
}

// Component is a program of Kubernetes that runs.
type Component struct {
	Name       string            `json:"name"` // as in kube-apiserver
	PID        int               `json:"pid"`
	Flags      map[string]string `json:"flags"`                // without the dashes; a flag without a value is "true", the last one counts
	ConfigFile string            `json:"configFile,omitempty"` // that --config names
	// Settings are what the configuration file says, with flags that have the same meaning laid over it.
	Settings map[string]any `json:"settings"`
	Problem  string         `json:"problem,omitempty"` // why the configuration file could not be read
}

// File is a file or directory whose protection matters.
type File struct {
	Path   string `json:"path"`
	Role   string `json:"role"` // what it is for: see files.go
	User   string `json:"user"` // what its owner may, as in "rw"
	Group  string `json:"group"`
	Others string `json:"others"`
	Owner  string `json:"owner"` // as in root:root; numbers when there is no name
	Dir    bool   `json:"dir"`
}

// Components that are looked for, by the name of the program.
func names() []string {
	return []string{"kube-apiserver", "kube-controller-manager", "kube-scheduler", "etcd", "kubelet", "kube-proxy"}
}

// Collect looks once. An error is that nothing can be seen at all; what cannot be read of a component is its Problem.
func (h Host) Collect(name string) (map[string]any, error) {
	components, err := h.components()
	if err != nil {
		return nil, err
	}
	files := h.files(components)
	object := map[string]any{"apiVersion": APIVersion, "kind": Kind, "metadata": map[string]any{"name": name}}
	text, err := yaml.Marshal(map[string]any{"components": components, "files": files})
	if err != nil {
		return nil, fmt.Errorf("describe the host: %w", err)
	}
	var spec map[string]any
	if err := yaml.Unmarshal(text, &spec); err != nil {
		return nil, fmt.Errorf("describe the host: %w", err)
	}
	object["spec"] = integers(spec)
	return object, nil
}

// integers turns JSON's numbers into integers, where they are: CEL compares the two kinds, but adds and masks only one.
func integers(v any) any {
	switch v := v.(type) {
	case float64:
		if v == float64(int64(v)) {
			return int64(v)
		}
	case map[string]any:
		for k, e := range v {
			v[k] = integers(e)
		}
	case []any:
		for i, e := range v {
			v[i] = integers(e)
		}
	}
	return v
}

func (h Host) proc() string {
	if h.Proc != "" {
		return h.Proc
	}
	return filepath.Join("/", h.Root, "proc")
}

func (h Host) components() ([]Component, error) {
	entries, err := os.ReadDir(h.proc())
	if err != nil {
		return nil, fmt.Errorf("read processes: %w", err)
	}
	found := []Component{}
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		text, err := os.ReadFile(filepath.Join(h.proc(), e.Name(), "cmdline"))
		if err != nil || len(text) == 0 {
			continue // it has ended, or is the kernel's
		}
		args := strings.Split(strings.TrimRight(string(text), "\x00"), "\x00")
		name := filepath.Base(args[0])
		if name == "hyperkube" || name == "kube" {
			args = args[1:]
			if len(args) == 0 {
				continue
			}
			name = "kube-" + strings.TrimPrefix(args[0], "kube-")
		}
		if !slices.Contains(names(), name) {
			continue
		}
		found = append(found, h.component(name, pid, args[1:]))
	}
	return found, nil
}

func (h Host) component(name string, pid int, args []string) Component {
	c := Component{Name: name, PID: pid, Flags: flags(args), Settings: map[string]any{}}
	c.ConfigFile = c.Flags["config"]
	if name == "etcd" {
		c.ConfigFile = c.Flags["config-file"]
	}
	if c.ConfigFile != "" {
		settings, err := h.settings(pid, c.ConfigFile)
		if err != nil {
			c.Problem = err.Error()
		} else {
			c.Settings = settings
		}
	}
	if name == "etcd" {
		h.environment(pid, c.Flags)
	}
	overlay(name, c.Flags, c.Settings)
	if path := c.Flags["encryption-provider-config"]; path != "" {
		c.Settings["encryptionProviders"] = h.providers(pid, path)
	}
	return c
}

// environment reads what etcd takes from its environment: ETCD_CERT_FILE is --cert-file. Flags win.
func (h Host) environment(pid int, flags map[string]string) {
	text, err := os.ReadFile(filepath.Join(h.proc(), strconv.Itoa(pid), "environ"))
	if err != nil {
		return // of another user: its flags are all there is
	}
	for pair := range strings.SplitSeq(string(text), "\x00") {
		name, value, _ := strings.Cut(pair, "=")
		name, ok := strings.CutPrefix(name, "ETCD_")
		if name = strings.ReplaceAll(strings.ToLower(name), "_", "-"); ok && flags[name] == "" {
			flags[name] = value
		}
	}
}

// providers are the first ones of an encryption configuration, by which new objects are written. Its keys are not kept.
func (h Host) providers(pid int, path string) []any {
	out := []any{}
	config, err := h.settings(pid, path)
	if err != nil {
		return out
	}
	resources, _ := config["resources"].([]any)
	for _, r := range resources {
		fields, _ := r.(map[string]any)
		list, _ := fields["providers"].([]any)
		if len(list) > 0 {
			first, _ := list[0].(map[string]any)
			for name := range first {
				out = append(out, name)
			}
		}
	}
	return out
}

// flags reads a command line as pflag does.
func flags(args []string) map[string]string {
	out := map[string]string{}
	for i := 0; i < len(args); i++ {
		name, dashed := strings.CutPrefix(args[i], "-")
		if !dashed {
			continue
		}
		name = strings.TrimPrefix(name, "-")
		name, value, has := strings.Cut(name, "=")
		if !has {
			value = "true"
			if i+1 < len(args) && !strings.HasPrefix(args[i+1], "-") {
				i++
				value = args[i]
			}
		}
		out[name] = value
	}
	return out
}

// settings reads a configuration file as the process sees it.
func (h Host) settings(pid int, path string) (map[string]any, error) {
	text, err := os.ReadFile(filepath.Join(h.proc(), strconv.Itoa(pid), "root", path))
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) {
		text, err = os.ReadFile(filepath.Join("/", h.Root, path))
	}
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	var out map[string]any
	if err := yaml.Unmarshal(text, &out); err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	if out == nil {
		out = map[string]any{}
	}
	return out, nil
}

// file looks at one file; ok is false when it is not there.
func (h Host) file(path, role string) (File, bool) {
	info, err := os.Stat(filepath.Join("/", h.Root, path))
	if err != nil {
		return File{}, false
	}
	mode := info.Mode().Perm()
	f := File{Path: path, Role: role, User: may(mode >> 6), Group: may(mode >> 3), Others: may(mode), Dir: info.IsDir()}
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		f.Owner = h.name("passwd", int64(st.Uid)) + ":" + h.name("group", int64(st.Gid))
	}
	return f, true
}

// may writes the lowest three bits of a mode.
func may(mode fs.FileMode) string {
	out := ""
	for i, letter := range []string{"x", "w", "r"} {
		if mode&(1<<i) != 0 {
			out = letter + out
		}
	}
	return out
}

// name finds who a number is, in the host's own list: this may run in a container.
func (h Host) name(list string, id int64) string {
	number := strconv.FormatInt(id, 10)
	text, err := os.ReadFile(filepath.Join("/", h.Root, "etc", list))
	if err == nil {
		for line := range strings.Lines(string(text)) {
			if parts := strings.Split(line, ":"); len(parts) > 2 && parts[2] == number {
				return parts[0]
			}
		}
	}
	if id == 0 {
		return "root"
	}
	return number
}
