// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/vigie-io/vigie/internal/cli/term"
	"github.com/vigie-io/vigie/internal/posture/cluster"
	"github.com/vigie-io/vigie/internal/posture/exception"
	"github.com/vigie-io/vigie/internal/posture/scan"
)

// postureCluster says which cluster.
type postureCluster struct {
	kubeconfig *pflag.Flag
	context    string
}

func (c *postureCluster) flags(f *pflag.FlagSet) {
	const usage = "file that says how to reach the cluster; else KUBECONFIG, ~/.kube/config, or the pod's service account"
	if f.Lookup("kubeconfig") == nil { // those of an agent have it
		f.String("kubeconfig", "", usage)
	}
	c.kubeconfig = f.Lookup("kubeconfig")
	c.kubeconfig.Usage = usage
	f.StringVar(&c.context, "context", "", "context of the kubeconfig; else its current one")
}

func (c *postureCluster) connect(env Env) (*cluster.Client, error) {
	return cluster.Connect(cluster.Access{Kubeconfig: c.kubeconfig.Value.String(), Context: c.context, Agent: "vigie/" + env.Version})
}

func newScanCluster(env Env) *cobra.Command {
	f := &scanFlags{}
	var where postureCluster
	var o cluster.Options
	secrets, printRBAC := false, false
	cmd := &cobra.Command{
		Use:   "cluster",
		Short: "Find what is unsafe or fragile in a running cluster",
		Long: "Find what is unsafe or fragile in a running cluster.\n\n" +
			"It only lists, page by page, and rests as long as the API server took for a page. --rbac prints the least that it may.\n" +
			"What a controller made is judged as its controller's template; --all judges it too. PolicyExceptions of the cluster hold.",
		Example: "  vigie scan cluster --context production --fail-on high\n  vigie scan cluster --namespace shop -o sarif > vigie.sarif\n  vigie scan cluster --rbac | kubectl apply -f -",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if printRBAC {
				return printClusterRBAC(env, f, secrets)
			}
			client, err := where.connect(env)
			if err != nil {
				return Cannot(err)
			}
			if err := f.targetOf(cmd, client); err != nil {
				return Cannot(err)
			}
			return runScan(cmd.Context(), env, f, func(j *scan.Judge) (*scan.Report, error) {
				return scanCluster(cmd.Context(), env, client, j, clusterScan{options: o, secrets: secrets, exceptions: f.exceptions})
			})
		},
	}
	f.flags(cmd)
	flags := cmd.Flags()
	where.flags(flags)
	flags.StringArrayVarP(&o.Namespaces, "namespace", "n", nil, "only this namespace; may be repeated")
	flags.StringArrayVar(&o.Except, "except-namespace", nil, "not this namespace; may be repeated")
	flags.BoolVar(&o.All, "all", false, "judge also what controllers made, and Kubernetes' own roles")
	flags.BoolVar(&secrets, "secrets", false, "read Secrets too; their values are not shown")
	flags.BoolVar(&printRBAC, "rbac", false, "print the ServiceAccount, ClusterRole and binding that a scan needs, and end")
	return cmd
}

func printClusterRBAC(env Env, f *scanFlags, secrets bool) error {
	controls, err := f.set.load()
	if err != nil {
		return Cannot(err)
	}
	wanted, _ := cluster.WantedBy(controls, secrets)
	_, err = fmt.Fprint(env.Out, wanted.RBAC("vigie-scan", cluster.SettingsNamespace))
	return err
}

// targetOf takes the cluster's version when the user names none.
func (f *scanFlags) targetOf(cmd *cobra.Command, client *cluster.Client) error {
	if cmd.Flags().Changed("target") {
		return nil
	}
	target, err := client.Target()
	if err != nil {
		return err
	}
	f.set.target = target.String()
	return nil
}

// clusterScan is what a scan of a cluster is told.
type clusterScan struct {
	options    cluster.Options
	secrets    bool
	exceptions []string // files, beside those of the cluster
}

func scanCluster(ctx context.Context, env Env, client *cluster.Client, j *scan.Judge, s clusterScan) (*scan.Report, error) {
	set, problems, err := clusterExceptions(ctx, client, j, s.exceptions)
	if err != nil {
		return nil, err
	}
	wanted, left := cluster.WantedBy(j.Controls, s.secrets)
	var summary *cluster.Summary
	r, err := j.WithExceptions(set, env.Now()).RunObjects(ctx, func(ctx context.Context, give func(scan.Item) error) error {
		var err error
		summary, err = client.Read(ctx, wanted, s.options, func(o cluster.Object) error {
			return give(scan.Item{Fields: o.Fields, Where: o.Path, Known: o.Theirs})
		})
		return err
	})
	if err != nil {
		return nil, err
	}
	r.Problems = append(r.Problems, problems...)
	for _, gap := range summary.Missing {
		r.Problems = append(r.Problems, scan.Problem{File: gap.Resource.String(), Line: 1, Column: 1, Message: gap.Err.Error()})
	}
	if len(left) > 0 {
		r.Problems = append(r.Problems, scan.Problem{File: "secrets", Line: 1, Column: 1, Note: true,
			Message: "were not read, which these controls look at: " + strings.Join(left, ", ") + "; --secrets reads them"})
	}
	return r, nil
}

// clusterExceptions are those of the cluster and of files. What is wrong with one of the cluster's is a problem of the report.
func clusterExceptions(ctx context.Context, client *cluster.Client, j *scan.Judge, files []string) (*exception.Set, []scan.Problem, error) {
	found, errs, err := client.Exceptions(ctx)
	if err != nil {
		errs = append(errs, err) // perhaps it is not allowed to read them: then nothing is excused
	}
	own, err := exceptionFiles(files)
	if err != nil {
		return nil, nil, err
	}
	set, err := exceptionSet(append(found, own...), j.Controls)
	if err != nil {
		errs = append(errs, err)
	}
	var problems []scan.Problem
	for _, err := range errs {
		problems = append(problems, scan.Problem{File: "policyexceptions.vigie.io", Line: 1, Column: 1, Note: true, Message: term.Escape(err.Error())})
	}
	return set, problems, nil
}
