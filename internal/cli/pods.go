// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"connectrpc.com/connect"
	"github.com/spf13/cobra"
	"google.golang.org/protobuf/encoding/protojson"

	vigiev1 "github.com/vigie-io/vigie/api/vigie/v1"
	"github.com/vigie-io/vigie/api/vigie/v1/vigiev1connect"
	"github.com/vigie-io/vigie/internal/cli/term"
	"github.com/vigie-io/vigie/internal/model"
	"github.com/vigie-io/vigie/internal/wire"
)

// NewPods is `vigie pods`.
func NewPods(env Env) *cobra.Command {
	var to target
	var out format
	var namespace string
	var all bool
	cmd := &cobra.Command{
		Use:   "pods",
		Short: "List the pods that the agent knows of, with what made them",
		Long: "List the pods of the agent's node, or with --all-nodes of the cluster, as the agent knows them: their controller, service account,\n" +
			"addresses and containers. `vigie lifecycle POD` says in which order the containers of one started and ended.",
		Example: "  vigie pods\n  vigie pods -n shop -o wide\n  vigie pods --all-nodes -o json",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			client, err := to.dial()
			if err != nil {
				return err
			}
			pods, missing, err := askPods(cmd.Context(), client, &vigiev1.ListPodsRequest{Namespace: namespace, AllNodes: all})
			if err != nil {
				return to.explain(err)
			}
			warnMissing(env.Err, missing)
			return printPods(env, out, pods)
		},
	}
	to.flags(cmd.Flags())
	out.flag(cmd)
	cmd.Flags().StringVarP(&namespace, "namespace", "n", "", "only of this namespace")
	cmd.Flags().BoolVarP(&all, "all-nodes", "A", false, "also pods of other nodes")
	return cmd
}

func listPods(ctx context.Context, client vigiev1connect.VigieClient, r *vigiev1.ListPodsRequest) ([]*model.Pod, error) {
	pods, _, err := askPods(ctx, client, r)
	return pods, err
}

// askPods is listPods with the nodes that a relay's answer is without.
func askPods(ctx context.Context, client vigiev1connect.VigieClient, r *vigiev1.ListPodsRequest) ([]*model.Pod, []*vigiev1.NodeError, error) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	answer, err := client.ListPods(ctx, connect.NewRequest(r))
	if err != nil {
		return nil, nil, err
	}
	pods := make([]*model.Pod, 0, len(answer.Msg.GetPods()))
	for _, p := range answer.Msg.GetPods() {
		pods = append(pods, wire.PodFromProto(p))
	}
	return pods, answer.Msg.GetNodeErrors(), nil
}

func printPods(env Env, out format, pods []*model.Pod) error {
	if out == formatJSON || out == formatYAML {
		for _, p := range pods {
			json, err := protojson.MarshalOptions{UseProtoNames: true}.Marshal(wire.PodToProto(p))
			if err == nil && out == formatYAML {
				err = writeYAML(env.Out, json)
			} else if err == nil {
				err = writeJSON(env.Out, json)
			}
			if err != nil {
				return fmt.Errorf("write a pod: %w", err)
			}
		}
		return nil
	}
	screen, now := env.screen(), env.Now()
	t := term.Table{Width: screen.Width, Style: screen.Style, Header: []string{"NAMESPACE", "POD", "CONTROLLER", "NODE", "AGE", "ADDRESS", "CONTAINERS"}}
	if out == formatWide {
		t.Width = 0
		t.Header = append(t.Header, "SERVICE ACCOUNT", "UID", "LABELS")
	}
	for _, p := range pods {
		address := "-"
		if len(p.Addresses) > 0 {
			address = p.Addresses[0].String()
		}
		if p.HostNetwork {
			address = "host"
		}
		if p.Ended {
			address = "ended"
		}
		cells := []string{term.Escape(p.Namespace), term.Escape(p.Name), dash(controllerText(p.Controller)), dash(term.Escape(p.Node)), age(now, p.Created), address,
			dash(containersText(p.Containers))}
		if out == formatWide {
			cells = append(cells, dash(term.Escape(p.ServiceAccount)), term.Escape(p.UID), dash(labelsText(p.Labels)))
		}
		t.Rows = append(t.Rows, cells)
	}
	return t.Write(env.Out)
}

func controllerText(c model.Controller) string {
	if c.Name == "" {
		return ""
	}
	return term.Escape(strings.ToLower(c.Kind) + "/" + c.Name)
}

func labelsText(labels map[string]string) string {
	list := make([]string, 0, len(labels))
	for _, k := range slices.Sorted(maps.Keys(labels)) {
		list = append(list, term.Escape(k+"="+labels[k]))
	}
	return strings.Join(list, ",")
}

// containersText names containers; the roles of those that are no ordinary ones stand behind.
func containersText(list []model.PodContainer) string {
	names := make([]string, 0, len(list))
	for _, c := range list {
		name := c.Name
		if c.Role != model.AppContainer {
			name += "(" + string(c.Role) + ")"
		}
		names = append(names, term.Escape(name))
	}
	return strings.Join(names, ",")
}
