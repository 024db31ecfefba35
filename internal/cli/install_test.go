// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
	"golang.org/x/sys/unix"
)

func TestInstallPrints(t *testing.T) {
	values := filepath.Join(t.TempDir(), "values.yaml")
	if err := os.WriteFile(values, []byte("agent: {fanotify: true, config: {rules: off}}\nrelay: {enabled: false}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name  string
		args  []string
		code  int
		has   []string
		lacks string
	}{
		{"defaults", nil, 0, []string{"kind: Namespace", "kind: DaemonSet", "kind: Deployment", "ghcr.io/vigie-io/vigie:", "- BPF"}, "- SYS_ADMIN"},
		{"values", []string{"-f", values}, 0, []string{"- SYS_ADMIN", "rules: \"off\""}, "kind: Deployment"},
		{"set over values", []string{"-f", values, "--set", "agent.fanotify=false", "--set", "relay.enabled=true"}, 0, []string{"kind: Deployment"}, "- SYS_ADMIN"},
		{"set a map", []string{"--set", "agent.config={l7: all, args-limit: 100}"}, 0, []string{"l7: all", "args-limit: 100"}, ""},
		{"admission", []string{"--set", "admission.enabled=true", "--set", "admission.replicas=3", "-n", "other"}, 0, []string{"name: vigie-admit", "replicas: 3", "- --lease-namespace=other"}, "vigie-system"},
		{"image", []string{"--image", "registry.example:5000/v:dev", "-n", "other"}, 0, []string{"registry.example:5000/v:dev", "namespace: other"}, "vigie-system"},
		{"image without tag", []string{"--image", "registry.example:5000/v"}, 0, []string{"registry.example:5000/v:"}, "ghcr.io"},
		{"show values", []string{"--show-values"}, 0, []string{"# The image of agent and relay."}, "kind:"},
		{"no such value", []string{"--set", "agent.fantoify=true"}, 2, []string{"there is no value agent.fantoify"}, ""},
		{"no value", []string{"--set", "agent.fanotify"}, 2, []string{"write NAME=VALUE"}, ""},
		{"image by digest", []string{"--image", "a@sha256:00"}, 2, []string{"write REPOSITORY:TAG"}, ""},
		{"no such file", []string{"-f", values + "-none"}, 2, []string{"read values"}, ""},
		{"no cluster", []string{"--apply", "--kubeconfig", values + "-none"}, 2, []string{"find the cluster"}, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			code, out, errs := vigie(t, append([]string{"install"}, c.args...)...)
			if code != c.code {
				t.Fatalf("code %d, want %d: %s", code, c.code, errs)
			}
			for _, want := range c.has {
				if !strings.Contains(out+errs, want) {
					t.Errorf("it lacks %q:\n%s%s", want, out, errs)
				}
			}
			if c.lacks != "" && strings.Contains(out, c.lacks) {
				t.Errorf("it has %q:\n%s", c.lacks, out)
			}
		})
	}
}

// TestTheChartGivesTheControllerWhatItAsksFor: the rights in the chart are those that the command prints.
func TestTheChartGivesTheControllerWhatItAsksFor(t *testing.T) {
	rights := func(args ...string) map[string]any {
		code, out, errs := vigie(t, args...)
		if code != 0 {
			t.Fatalf("%v: code %d: %s", args, code, errs)
		}
		found := map[string]any{}
		for d := yaml.NewDecoder(strings.NewReader(out)); ; {
			var o struct {
				Kind     string
				Metadata struct{ Name, Namespace string }
				Rules    []struct {
					Groups    []string `yaml:"apiGroups"`
					Resources []string
					Names     []string `yaml:"resourceNames"`
					Verbs     []string
				}
				Role     map[string]string   `yaml:"roleRef"`
				Subjects []map[string]string `yaml:"subjects"`
			}
			if err := d.Decode(&o); errors.Is(err, io.EOF) {
				return found
			} else if err != nil {
				t.Fatal(err)
			}
			if o.Metadata.Name == "vigie-admit" && o.Kind != "Deployment" {
				found[o.Kind] = o
			}
		}
	}
	chart, command := rights("install", "--set", "admission.enabled=true"), rights("admit", "controller", "--rbac", "--leader-elect")
	if len(chart) != 5 || !reflect.DeepEqual(chart, command) {
		t.Errorf("the chart gives\n%v\nand the command asks for\n%v", chart, command)
	}
}

func TestCleanupRemovesWhatAnAgentLeft(t *testing.T) {
	root := t.TempDir()
	for _, f := range []string{"sys/fs/bpf/vigie/00/link_1", "sys/fs/bpf/other", "var/lib/vigie/history/a.parquet", "var/lib/x", "run/vigie/vigie.lock", "run/x"} {
		f = filepath.Join(root, f)
		if err := os.MkdirAll(filepath.Dir(f), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(f, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	lock, err := os.Open(filepath.Join(root, "run/vigie/vigie.lock"))
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Close()
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	if code, _, errs := vigie(t, "cleanup", "--root", root); code != 2 || !strings.Contains(errs, "an agent runs") {
		t.Errorf("beside an agent: code %d: %s", code, errs)
	}
	lock.Close()
	for range 2 { // once more finds nothing, and that is fine
		if code, _, errs := vigie(t, "cleanup", "--root", root); code != 0 {
			t.Fatalf("code %d: %s", code, errs)
		}
	}
	for f, want := range map[string]bool{"sys/fs/bpf/vigie": false, "var/lib/vigie": false, "run/vigie": false, "sys/fs/bpf/other": true, "var/lib/x": true, "run/x": true} {
		if _, err := os.Stat(filepath.Join(root, f)); (err == nil) != want {
			t.Errorf("%s: there %v, want %v", f, err == nil, want)
		}
	}
}
