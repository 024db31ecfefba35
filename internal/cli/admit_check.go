// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"fmt"
	"slices"

	"github.com/spf13/cobra"

	"k8s.io/apimachinery/pkg/runtime"
	apischema "k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/kube-openapi/pkg/validation/spec"

	"github.com/vigie-io/vigie/internal/cli/term"
	"github.com/vigie-io/vigie/internal/posture/admission"
	"github.com/vigie-io/vigie/internal/posture/cluster"
	"github.com/vigie-io/vigie/internal/posture/control"
	"github.com/vigie-io/vigie/internal/posture/engine"
	"github.com/vigie-io/vigie/internal/posture/schema"
)

func newAdmitCheck(env Env) *cobra.Command {
	var where postureCluster
	var files []string
	target := ""
	cmd := &cobra.Command{
		Use:   "check",
		Short: "Compile every policy as another version of Kubernetes would, before an upgrade",
		Long: "Compile every ValidatingAdmissionPolicy and MutatingAdmissionPolicy, whoever made it, with the CEL of another version of Kubernetes: those of\n" +
			"the cluster, of files, and those that vigie would make of all its controls. Also named are policies about versions of the API that the target\n" +
			"does not have any more. The types of fields are checked by the schemas of the kinds that a policy is about: those of the target come with vigie, those of\n" +
			"custom resources are the cluster's. What is wrong for each of a policy's kinds is an error, unless it is so today already. Of a version that this build does not know the newest one that it knows answers, and that is said.",
		Example: "  vigie admit check --target 1.37\n  vigie admit check --target 1.37 -f policies/",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			var wanted engine.Version
			if n, err := fmt.Sscanf(target, "%d.%d", &wanted.Major, &wanted.Minor); n != 2 || err != nil {
				return Cannot(fmt.Errorf("--target %s: want a version as in 1.37", target))
			}
			used, exact := admission.Known(wanted)
			if !exact {
				fmt.Fprintf(env.Out, "%s this build does not know Kubernetes %s: %s answers, the newest that it knows\n", env.screen().Style.Yellow("note"), wanted, used)
			}
			check := &policyCheck{env: env, target: used}
			if check.own, err = ownPolicies(used); err != nil {
				return Cannot(err)
			}
			if check.builtin, err = schema.Builtin(); err != nil {
				return Cannot(err)
			}
			read, err := readDocuments(files)
			if err != nil {
				return Cannot(fmt.Errorf("read policies: %w", err))
			}
			for _, d := range read {
				check.theirs = append(check.theirs, d.Value)
			}
			if len(files) == 0 {
				client, err := where.connect(env)
				if err != nil {
					return Cannot(err)
				}
				if err := check.ask(cmd.Context(), client); err != nil {
					return Cannot(err)
				}
			}
			return check.run()
		},
	}
	where.flags(cmd.Flags())
	_, newest := engine.Supported()
	cmd.Flags().StringVar(&target, "target", newest.String(), "version of Kubernetes")
	cmd.Flags().StringArrayVarP(&files, "file", "f", nil, "file or directory with policies, instead of those of a cluster; may be repeated")
	return cmd
}

// ownPolicies are those of all controls that come with vigie.
func ownPolicies(target engine.Version) ([]map[string]any, error) {
	all, err := control.Default()
	if err != nil {
		return nil, err
	}
	bundle, err := admission.Compile(admission.Plan{Controls: all, Target: target})
	if err != nil {
		return nil, err
	}
	var out []map[string]any
	for _, p := range bundle.Policies {
		fields, err := runtime.DefaultUnstructuredConverter.ToUnstructured(p)
		if err != nil {
			return nil, fmt.Errorf("read policy %s: %w", p.Name, err)
		}
		out = append(out, fields)
	}
	return out, nil
}

// policyCheck is one run of `vigie admit check`.
type policyCheck struct {
	env     Env
	target  engine.Version
	builtin *schema.Set
	own     []map[string]any // of vigie; a test sends them to API servers
	theirs  []map[string]any
	cluster *cluster.Types // nil: none is asked
	today   engine.Version // of the cluster
}

// ask takes the policies of a cluster, and its types.
func (c *policyCheck) ask(ctx context.Context, client *cluster.Client) (err error) {
	if c.theirs, err = client.AllPolicies(ctx); err != nil {
		return err
	}
	if c.today, err = client.Target(); err != nil {
		return err
	}
	c.cluster, err = client.Types()
	return err
}

// types are those of the target: the cluster's own when it is of that version, else those that come with vigie, and the cluster's of custom resources.
type types struct {
	builtin *schema.Set
	cluster *cluster.Types
}

// ResolveSchema implements admission.Types.
func (t types) ResolveSchema(kind apischema.GroupVersionKind) (*spec.Schema, error) {
	if t.cluster == nil || t.builtin.Has(kind) {
		return t.builtin.ResolveSchema(kind)
	}
	return t.cluster.ResolveSchema(kind)
}

// KindOf implements admission.Types.
func (t types) KindOf(resource apischema.GroupVersionResource) (apischema.GroupVersionKind, bool) {
	kind, ok := t.builtin.KindOf(resource)
	if !ok && t.cluster != nil && !t.builtin.HasGroup(resource.Group) { // what is gone in the target is gone, whatever the cluster has today
		return t.cluster.KindOf(resource)
	}
	return kind, ok
}

// doubts are those about all policies. What is wrong with types today too is a note: the upgrade changes nothing about it.
func (c *policyCheck) doubts() (doubts []admission.Doubt, checked int, err error) {
	all, err := control.Default()
	if err != nil {
		return nil, 0, err
	}
	doubts, checked, err = admission.Check(c.own, c.target, all, nil)
	if err != nil {
		return nil, 0, err
	}
	var of admission.Types = types{c.builtin, c.cluster}
	if c.cluster != nil && c.today == c.target {
		of = c.cluster
	}
	found, n, err := admission.Check(c.theirs, c.target, all, of)
	if err != nil {
		return nil, 0, err
	}
	if c.cluster != nil && c.today != c.target {
		today, _, err := admission.Check(c.theirs, c.today, all, c.cluster)
		if err != nil {
			return nil, 0, err
		}
		for i, d := range found {
			same := func(t admission.Doubt) bool { return t.Types && t.Policy == d.Policy && t.Message == d.Message }
			found[i].Note = d.Note || d.Types && slices.ContainsFunc(today, same)
		}
	}
	return append(doubts, found...), checked + n, nil
}

func (c *policyCheck) run() error {
	minor, err := c.builtin.Minor()
	if err != nil {
		return Cannot(err)
	}
	st := c.env.screen().Style
	if minor != c.target.Minor && (c.cluster == nil || c.today != c.target) {
		fmt.Fprintf(c.env.Out, "%s the types of fields that this build knows are those of Kubernetes 1.%d\n", st.Yellow("note"), minor)
	}
	doubts, checked, err := c.doubts()
	if err != nil {
		return Cannot(err)
	}
	failed := 0
	for _, d := range doubts {
		word := st.Red("fails")
		switch {
		case d.Dead:
			word = st.Yellow("idle")
		case d.Note:
			word = st.Yellow("types")
		default:
			failed++
		}
		fmt.Fprintf(c.env.Out, "%s %s: %s\n", word, st.Bold(term.Escape(d.Policy)), term.EscapeLines(d.Message))
	}
	fmt.Fprintf(c.env.Out, "%s compiled for Kubernetes %s: %s\n", pluralOf(checked, "policy", "policies"), c.target, plural(failed, "error"))
	if failed > 0 {
		return exit(ExitFailed)
	}
	return nil
}
