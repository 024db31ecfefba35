// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"fmt"

	"github.com/spf13/cobra"

	"k8s.io/apimachinery/pkg/runtime"

	"github.com/vigie-io/vigie/internal/cli/term"
	"github.com/vigie-io/vigie/internal/posture/admission"
	"github.com/vigie-io/vigie/internal/posture/control"
	"github.com/vigie-io/vigie/internal/posture/engine"
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
			"does not have any more. Of a version that this build does not know the newest one that it knows answers, and that is said.",
		Example: "  vigie admit check --target 1.37\n  vigie admit check --target 1.37 -f policies/",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var wanted engine.Version
			if n, err := fmt.Sscanf(target, "%d.%d", &wanted.Major, &wanted.Minor); n != 2 || err != nil {
				return Cannot(fmt.Errorf("--target %s: want a version as in 1.37", target))
			}
			used, exact := admission.Known(wanted)
			if !exact {
				fmt.Fprintf(env.Out, "%s this build does not know Kubernetes %s: %s answers, the newest that it knows\n", env.screen().Style.Yellow("note"), wanted, used)
			}
			documents, err := ownPolicies(used)
			if err != nil {
				return Cannot(err)
			}
			read, err := readDocuments(files)
			if err != nil {
				return Cannot(fmt.Errorf("read policies: %w", err))
			}
			for _, d := range read {
				documents = append(documents, d.Value)
			}
			if len(files) == 0 {
				client, err := where.connect(env)
				if err != nil {
					return Cannot(err)
				}
				theirs, err := client.AllPolicies(cmd.Context())
				if err != nil {
					return Cannot(err)
				}
				documents = append(documents, theirs...)
			}
			return printCheck(env, documents, used)
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

func printCheck(env Env, documents []map[string]any, target engine.Version) error {
	all, err := control.Default()
	if err != nil {
		return Cannot(err)
	}
	doubts, checked, err := admission.Check(documents, target, all)
	if err != nil {
		return Cannot(err)
	}
	st := env.screen().Style
	failed := 0
	for _, d := range doubts {
		word := st.Red("fails")
		if d.Dead {
			word = st.Yellow("idle")
		} else {
			failed++
		}
		fmt.Fprintf(env.Out, "%s %s: %s\n", word, st.Bold(term.Escape(d.Policy)), term.EscapeLines(d.Message))
	}
	fmt.Fprintf(env.Out, "%s compiled for Kubernetes %s: %s\n", pluralOf(checked, "policy", "policies"), target, plural(failed, "error"))
	if failed > 0 {
		return exit(ExitFailed)
	}
	return nil
}
