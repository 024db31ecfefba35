// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/vigie-io/vigie/internal/posture/control"
	"github.com/vigie-io/vigie/internal/posture/node"
	"github.com/vigie-io/vigie/internal/posture/scan"
)

func newScanNode(env Env) *cobra.Command {
	f := &scanFlags{}
	var host node.Host
	list := false
	cmd := &cobra.Command{
		Use:   "node",
		Short: "Compare this host with the CIS Kubernetes Benchmark, sections 1 to 4",
		Long: "Compare this host with the CIS Kubernetes Benchmark, sections 1 to 4, as far as files and flags can tell: command lines and configuration\n" +
			"files of the API server, controller manager, scheduler, etcd, kubelet and kube-proxy that run here, and the owners and modes of their files.\n" +
			"What does not run here is not judged. Run it as root, or much cannot be read.",
		Example: "  sudo vigie scan node\n  vigie scan node --list\n  vigie scan node --root /host",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			f.set.source = node.Controls
			if list {
				return listNodeControls(env, &f.set)
			}
			name, err := os.Hostname()
			if err != nil {
				return Cannot(fmt.Errorf("find the host's name: %w", err))
			}
			return runScan(cmd.Context(), env, f, func(j *scan.Judge) (*scan.Report, error) {
				fields, err := host.Collect(name)
				if err != nil {
					return nil, err
				}
				r, err := j.RunObjects(cmd.Context(), func(_ context.Context, give func(scan.Item) error) error {
					return give(scan.Item{Fields: fields, Where: name})
				})
				if err != nil {
					return nil, err
				}
				for _, problem := range node.Problems(fields) {
					r.Problems = append(r.Problems, scan.Problem{File: name, Line: 1, Column: 1, Message: problem})
				}
				return r, nil
			})
		},
	}
	f.flags(cmd)
	cmd.Flags().StringVar(&host.Root, "root", "", "where the host's file system is, when this runs in a container")
	cmd.Flags().BoolVar(&list, "list", false, "list the controls and end")
	return cmd
}

func listNodeControls(env Env, set *controlSet) error {
	controls, err := set.load()
	if err != nil {
		return Cannot(err)
	}
	for _, c := range controls {
		if _, err := fmt.Fprintf(env.Out, "%-8s %-40s %-9s %s\n", c.Frameworks["cis"][0], c.ID, c.Severity, c.Title); err != nil {
			return err
		}
	}
	return nil
}

// defaults are those that a set picks from when it has no other source.
func (s *controlSet) defaults() ([]*control.Control, error) {
	if s.source != nil {
		return s.source()
	}
	return control.Default()
}
