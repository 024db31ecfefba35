// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"go.yaml.in/yaml/v3"

	"github.com/vigie-io/vigie/internal/cli/term"
	"github.com/vigie-io/vigie/internal/kube/install"
)

// clusterFlags say which cluster is meant, as kubectl's do.
type clusterFlags struct {
	kubeconfig, context string
	timeout             time.Duration
}

func (f *clusterFlags) add(fs *pflag.FlagSet, timeout time.Duration) {
	fs.StringVar(&f.kubeconfig, "kubeconfig", "", "file that names clusters (default $KUBECONFIG, or ~/.kube/config)")
	fs.StringVar(&f.context, "context", "", "context of the kubeconfig (default the current one)")
	fs.DurationVar(&f.timeout, "timeout", timeout, "how long to wait at most")
}

// connect reaches the cluster. What is done there is printed.
func (f *clusterFlags) connect(env Env) (*install.Cluster, error) {
	c, err := install.Connect(f.kubeconfig, f.context)
	if err != nil {
		return nil, Cannot(err)
	}
	c.Tell = func(deed, object string) { fmt.Fprintf(env.Out, "%s %s\n", term.Escape(object), deed) }
	return c, nil
}

// installFlags is what `vigie install` is told.
type installFlags struct {
	cluster    clusterFlags
	namespace  string
	image      string
	files      []string
	sets       []string
	apply      bool
	noWait     bool
	showValues bool
}

// NewInstall is `vigie install`.
func NewInstall(env Env) *cobra.Command {
	f := &installFlags{}
	cmd := &cobra.Command{
		Use:   "install",
		Short: "Put vigie into a Kubernetes cluster: print the manifests, or apply them",
		Long: "Put vigie into a Kubernetes cluster: an agent on each node, beside whatever CNI is there, and a relay that shows all of them as one.\n\n" +
			"Without --apply the manifests are printed, for kubectl apply -f - or for a repository. With --apply they are applied, what an earlier\n" +
			"version had and this one has not is deleted, and the command waits until all runs; doing it again is the upgrade. The objects are those\n" +
			"of the Helm chart in deploy/helm, with the same values. docs/kubernetes.md says what rights they take, and why.",
		Example: "  vigie install | kubectl apply --server-side -f -\n  vigie install --apply\n  vigie install --apply --set agent.fanotify=true --values my.yaml\n  vigie uninstall",
		Args:    cobra.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return f.run(cmd.Context(), env) },
	}
	fs := cmd.Flags()
	f.cluster.add(fs, 5*time.Minute)
	fs.StringVarP(&f.namespace, "namespace", "n", install.DefaultNamespace, "where vigie lives")
	fs.StringVar(&f.image, "image", "", "image of agent and relay, REPOSITORY[:TAG] (default the release of this binary)")
	fs.StringSliceVarP(&f.files, "values", "f", nil, "YAML files of values, the last wins; --show-values prints all there are")
	fs.StringArrayVar(&f.sets, "set", nil, "one value: agent.fanotify=true; a list or a map is written as in YAML")
	fs.BoolVar(&f.apply, "apply", false, "apply to the cluster instead of printing")
	fs.BoolVar(&f.noWait, "no-wait", false, "with --apply: do not wait until all runs")
	fs.BoolVar(&f.showValues, "show-values", false, "print the values that there are, with their defaults")
	return cmd
}

func (f *installFlags) run(ctx context.Context, env Env) error {
	if f.showValues {
		data, err := install.ShowValues()
		if err != nil {
			return err
		}
		_, err = env.Out.Write(data)
		return err
	}
	values, err := f.values()
	if err != nil {
		return Cannot(err)
	}
	options := install.Options{Namespace: f.namespace, Version: env.Version, Values: values}
	if !f.apply {
		objects, err := install.Render(options)
		if err != nil {
			return Cannot(err)
		}
		data, err := install.Print(objects)
		if err != nil {
			return err
		}
		_, err = env.Out.Write(data)
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, f.cluster.timeout)
	defer cancel()
	c, err := f.cluster.connect(env)
	if err != nil {
		return err
	}
	// What was made once for all, as certificates are, is taken from the cluster.
	options.Lookup = func(kind, namespace, name string) (map[string]any, error) {
		return c.Lookup(ctx, kind, namespace, name)
	}
	objects, err := install.Render(options)
	if err != nil {
		return Cannot(err)
	}
	if err := c.Apply(ctx, objects); err != nil || f.noWait {
		return err
	}
	return c.Ready(ctx, objects)
}

// values are those of the files, with --set and the other flags over them.
func (f *installFlags) values() (map[string]any, error) {
	// The namespace is part of what is installed; Helm makes its own.
	all := map[string]any{"namespace": map[string]any{"create": true}}
	for _, file := range f.files {
		data, err := os.ReadFile(file)
		if err != nil {
			return nil, fmt.Errorf("read values: %w", err)
		}
		var v map[string]any
		if err := yaml.Unmarshal(data, &v); err != nil {
			return nil, fmt.Errorf("read values of %s: %w", file, err)
		}
		overlay(all, v)
	}
	for _, set := range f.sets {
		path, text, ok := strings.Cut(set, "=")
		if !ok {
			return nil, fmt.Errorf("--set %s: write NAME=VALUE", set)
		}
		var value any
		if err := yaml.Unmarshal([]byte(text), &value); err != nil {
			return nil, fmt.Errorf("--set %s: %w", set, err)
		}
		overlay(all, nested(strings.Split(path, "."), value))
	}
	if f.image != "" {
		repository, tag := f.image, ""
		if at := strings.LastIndexByte(f.image, ':'); at > strings.LastIndexByte(f.image, '/') {
			repository, tag = f.image[:at], f.image[at+1:]
		}
		if repository == "" || strings.Contains(repository, "@") {
			return nil, errors.New("--image: write REPOSITORY:TAG")
		}
		overlay(all, nested([]string{"image"}, map[string]any{"repository": repository, "tag": tag}))
	}
	return all, nil
}

// nested is a value at a path of names.
func nested(path []string, value any) map[string]any {
	for i := len(path) - 1; i > 0; i-- {
		value = map[string]any{path[i]: value}
	}
	return map[string]any{path[0]: value}
}

// overlay puts values over others, maps into maps.
func overlay(into, over map[string]any) {
	for name, v := range over {
		old, isMap := into[name].(map[string]any)
		if m, given := v.(map[string]any); isMap && given {
			overlay(old, m)
			continue
		}
		into[name] = v
	}
}

// NewUninstall is `vigie uninstall`.
func NewUninstall(env Env) *cobra.Command {
	f, deletePolicies := clusterFlags{}, false
	cmd := &cobra.Command{
		Use:   "uninstall",
		Short: "Take vigie out of a Kubernetes cluster, and off its nodes",
		Long: "Take vigie out of a Kubernetes cluster: what `vigie install` has made there, and what the agents left on the nodes: programs and maps\n" +
			"in the kernel, history, sockets. Policies go with their kinds: where there are any, say --delete-policies, or save them first.",
		Example: "  kubectl get workloadpolicies -A -o yaml > policies.yaml\n  vigie uninstall --delete-policies",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, cancel := context.WithTimeout(cmd.Context(), f.timeout)
			defer cancel()
			c, err := f.connect(env)
			if err != nil {
				return err
			}
			err = c.Uninstall(ctx, deletePolicies)
			if errors.Is(err, install.ErrPolicies) {
				return Cannot(fmt.Errorf("%w; save those that you want to keep, then say --delete-policies", err))
			}
			return err
		},
	}
	f.add(cmd.Flags(), 5*time.Minute)
	cmd.Flags().BoolVar(&deletePolicies, "delete-policies", false, "delete the policies of the cluster too")
	return cmd
}
