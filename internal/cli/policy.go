// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"connectrpc.com/connect"
	"github.com/spf13/cobra"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	vigiev1 "github.com/vigie-io/vigie/api/vigie/v1"
	"github.com/vigie-io/vigie/internal/cli/term"
)

// NewPolicy is `vigie policy` with its commands.
func NewPolicy(env Env) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "policy",
		Aliases: []string{"policies"},
		Short:   "Say what workloads may do: apply, learn, try and explain policies",
		Long: "Say what workloads may do. A policy begins as YAML, written by hand or with `vigie policy learn`; `vigie policy simulate`\n" +
			"tells what it would have denied, `vigie policy test` holds it to cases, `vigie policy apply` brings it in force, in audit mode\n" +
			"first, and `vigie policy mode NAME enforce` has it act.\n\n" +
			"Policies that are applied stay over restarts of the agent. Those in the agent's --policy-dir belong to their files: they\n" +
			"are changed there, and here only switched between audit and enforce.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newPolicyApply(env), newPolicyList(env), newPolicyShow(env), newPolicyMode(env), newPolicyDelete(env),
		newPolicyLearn(env), newPolicySimulate(env), newPolicyExplain(env), newPolicyTest(env))
	return cmd
}

func newPolicyApply(env Env) *cobra.Command {
	var to target
	var out format
	var files []string
	var dry bool
	cmd := &cobra.Command{
		Use:   "apply -f FILE|DIR",
		Short: "Bring the policies of files in force, all or none",
		Long: "Bring the policies of files in force, all of them or, when one is refused, none. Those before stay in force, whole, until the\n" +
			"new ones are. --dry-run says what would be in force, and by which rungs, and changes nothing.",
		Example: "  sudo vigie policy apply -f web.yaml --dry-run\n  sudo vigie policy apply -f web.yaml\n  vigie policy learn --workload nginx.service | sudo vigie policy apply -f -",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			given, err := readPolicies(env, files)
			if err != nil {
				return Cannot(err)
			}
			client, err := to.dial()
			if err != nil {
				return err
			}
			resp, err := client.ApplyPolicies(cmd.Context(), connect.NewRequest(&vigiev1.ApplyPoliciesRequest{Yaml: given.text, Source: given.name, DryRun: dry}))
			if err != nil {
				return explainChange(&to, given.place(err))
			}
			return changedOn(env, resp.Msg.GetNodeErrors(), printApplied(env, out, resp.Msg.GetPolicies(), dry))
		},
	}
	to.flags(cmd.Flags())
	out.flag(cmd)
	policyFiles(cmd, &files)
	cmd.Flags().BoolVar(&dry, "dry-run", false, "only say what would be in force")
	return cmd
}

func newPolicyMode(env Env) *cobra.Command {
	var to target
	cmd := &cobra.Command{
		Use:   "mode NAME audit|enforce",
		Short: "Switch a policy between watching and acting",
		Long: "Switch a policy between audit, which reports what it would deny, and enforce, which denies.\n\n" +
			"The mode holds over restarts: of a policy that was applied until it is applied anew, of one of the policy directory until its\n" +
			"file says another mode than it does now.",
		Example: "  sudo vigie policy mode web enforce",
		Args:    cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			client, err := to.dial()
			if err != nil {
				return err
			}
			resp, err := client.SetPolicyMode(cmd.Context(), connect.NewRequest(&vigiev1.SetPolicyModeRequest{Name: args[0], Mode: args[1]}))
			if err != nil {
				return explainChange(&to, err)
			}
			return changedOn(env, resp.Msg.GetNodeErrors(), printApplied(env, formatTable, []*vigiev1.Policy{resp.Msg.GetPolicy()}, false))
		},
	}
	to.flags(cmd.Flags())
	cmd.ValidArgsFunction = func(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
		switch len(args) {
		case 0:
			return policyNames(cmd.Context(), &to), cobra.ShellCompDirectiveNoFileComp
		case 1:
			return []string{"audit", "enforce"}, cobra.ShellCompDirectiveNoFileComp
		}
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	return cmd
}

func newPolicyDelete(env Env) *cobra.Command {
	var to target
	cmd := &cobra.Command{
		Use:     "delete NAME",
		Short:   "Take a policy out of force",
		Long:    "Take a policy out of force for good. One of the policy directory is deleted by removing its file.",
		Example: "  sudo vigie policy delete web",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			client, err := to.dial()
			if err != nil {
				return err
			}
			resp, err := client.DeletePolicy(cmd.Context(), connect.NewRequest(&vigiev1.DeletePolicyRequest{Name: args[0]}))
			if err != nil {
				return explainChange(&to, err)
			}
			_, err = fmt.Fprintf(env.Out, "policy %s: deleted\n", term.Escape(args[0]))
			return changedOn(env, resp.Msg.GetNodeErrors(), err)
		},
	}
	to.flags(cmd.Flags())
	completePolicyName(cmd, &to)
	return cmd
}

// explainChange is target.explain for what changes policies: who may is another question than who may look.
func explainChange(to *target, err error) error {
	var ce *connect.Error
	if connect.CodeOf(err) == connect.CodePermissionDenied && errors.As(err, &ce) {
		return Cannot(errors.New(ce.Message()))
	}
	return to.explain(err)
}

// listPolicies asks for the policies; of one name, or all.
func listPolicies(ctx context.Context, to *target, name string) ([]*vigiev1.Policy, error) {
	client, err := to.dial()
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	resp, err := client.ListPolicies(ctx, connect.NewRequest(&vigiev1.ListPoliciesRequest{Name: name}))
	if err != nil {
		return nil, to.explain(err)
	}
	to.missing(resp.Msg.GetNodeErrors())
	return resp.Msg.GetPolicies(), nil
}

// policyNames are what a shell offers as names.
func policyNames(ctx context.Context, to *target) []string {
	if ctx == nil {
		ctx = context.Background()
	}
	ctx, cancel := context.WithTimeout(ctx, completeTimeout)
	defer cancel()
	list, err := listPolicies(ctx, to, "")
	if err != nil {
		return nil
	}
	var names []string
	for _, p := range list {
		if plainASCII(p.GetName()) && !strings.Contains(p.GetName(), " ") {
			names = append(names, p.GetName())
		}
	}
	return names
}

func completePolicyName(cmd *cobra.Command, to *target) {
	cmd.ValidArgsFunction = func(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
		if len(args) > 0 {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		return policyNames(cmd.Context(), to), cobra.ShellCompDirectiveNoFileComp
	}
}

// printMessage prints a message of the API as JSON or YAML.
func printMessage(w io.Writer, out format, m proto.Message) error {
	json, err := protojson.MarshalOptions{UseProtoNames: true}.Marshal(m)
	if err != nil {
		return fmt.Errorf("write json: %w", err)
	}
	if out == formatYAML {
		return writeYAML(w, json)
	}
	return writeJSON(w, json)
}
