// SPDX-License-Identifier: Apache-2.0

package server

import (
	"context"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"

	pb "github.com/vigie-io/vigie/api/vigie/v1"
	"github.com/vigie-io/vigie/internal/model"
)

// followsKubernetes is a Backend that knows pods.
type followsKubernetes struct {
	*agent
	status *Kubernetes
}

func (f followsKubernetes) Status() Status {
	s := f.agent.Status()
	s.Kubernetes = f.status
	return s
}

func (followsKubernetes) Pods() []*model.Pod {
	return []*model.Pod{{UID: "3", Namespace: "shop", Name: "web", Node: "here"}, {UID: "1", Namespace: "bank", Name: "web", Node: "here"},
		{UID: "2", Namespace: "shop", Name: "db", Node: "there"}}
}

func TestListPods(t *testing.T) {
	backend := followsKubernetes{newAgent(), &Kubernetes{Server: "https://192.0.2.1", Node: "here", Synced: true, Watches: 6, Pods: 3, OwnPods: 2,
		Heard: time.Unix(1_800_000_000, 0), Problems: []string{"it is away"}}}
	server, err := New(Config{Socket: filepath.Join(t.TempDir(), "s"), Pods: backend}, backend, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	s := &service{Server: server}
	for want, r := range map[string]*pb.ListPodsRequest{
		"1 3":   {},
		"3":     {Namespace: "shop"},
		"2 3":   {Namespace: "shop", AllNodes: true},
		"1 2 3": {AllNodes: true},
		"2":     {Name: "db", AllNodes: true},
		"":      {Name: "db"},
	} {
		answer, err := s.ListPods(context.Background(), connect.NewRequest(r))
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, p := range answer.Msg.GetPods() {
			got = append(got, p.GetUid())
		}
		if strings.Join(got, " ") != want {
			t.Errorf("%v: %v, want %s", r, got, want)
		}
	}
	status, err := s.GetStatus(context.Background(), connect.NewRequest(&pb.GetStatusRequest{}))
	if err != nil {
		t.Fatal(err)
	}
	if k := status.Msg.GetStatus().GetKubernetes(); k.GetNode() != "here" || !k.GetSynced() || k.GetOwnPods() != 2 || k.GetLastHeard().GetSeconds() != 1_800_000_000 ||
		k.GetRestored() != nil || len(k.GetProblems()) != 1 {
		t.Errorf("status: %v", k)
	}
	s.config.Pods = nil
	if _, err := s.ListPods(context.Background(), connect.NewRequest(&pb.ListPodsRequest{})); connect.CodeOf(err) != connect.CodeFailedPrecondition {
		t.Errorf("without Kubernetes: %v", err)
	}
}
