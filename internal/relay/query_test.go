// SPDX-License-Identifier: Apache-2.0

package relay

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/timestamppb"

	pb "github.com/vigie-io/vigie/api/vigie/v1"
)

func stamp(t time.Time) *timestamppb.Timestamp { return timestamppb.New(t) }

// Pages of any size, in either direction, put together are the whole past: nothing twice, nothing missing.
func TestPagesMakeTheWhole(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	agents := []*fakeAgent{newFakeAgent(t, "a"), newFakeAgent(t, "b"), newFakeAgent(t, "c")}
	agents[1].ahead = -3 * time.Minute
	var want []string
	now := time.Now()
	for i := range 200 {
		f := agents[rng.IntN(2)] // c has nothing
		f.happenAt(fmt.Sprintf("/%d", i), now.Add(time.Duration(i-300)*time.Second))
		want = append(want, fmt.Sprintf("%s /%d", f.name, i))
	}
	r := startRelay(t, nil, agents...)
	for _, newest := range []bool{false, true} {
		for _, size := range []uint32{1, 7, 64, 1000} {
			var got []string
			token := ""
			for pages := range 500 {
				p, err := r.client.QueryEvents(t.Context(), connect.NewRequest(&pb.QueryEventsRequest{NewestFirst: newest, PageSize: size, PageToken: token}))
				if err != nil {
					t.Fatal(err)
				}
				if len(p.Msg.GetEvents()) > int(size) {
					t.Fatalf("a page of %d has %d events", size, len(p.Msg.GetEvents()))
				}
				for _, e := range p.Msg.GetEvents() {
					got = append(got, e.GetNode()+" "+e.GetFile().GetPath())
				}
				if newest && pages == 2 {
					agents[0].happenAt("/meanwhile", now) // moves the pages of its node
				}
				if token = p.Msg.GetNextPageToken(); token == "" {
					break
				}
			}
			if newest {
				slices.Reverse(got)
			}
			got = slices.DeleteFunc(got, func(s string) bool { return s == "a /meanwhile" })
			if !slices.Equal(got, want) {
				t.Errorf("pages of %d, newest first %v: %d events of %d", size, newest, len(got), len(want))
			}
		}
	}
	for _, token := range []string{"?", "e30", "bnVsbA"} {
		if _, err := r.client.QueryEvents(t.Context(), connect.NewRequest(&pb.QueryEventsRequest{PageToken: token})); connect.CodeOf(err) != connect.CodeInvalidArgument {
			t.Errorf("token %q: %v", token, err)
		}
	}
}

func TestProcessesOfAllNodes(t *testing.T) {
	r := startRelay(t, nil, newFakeAgent(t, "a"), newFakeAgent(t, "b"), newFakeAgent(t, "c"))
	for _, size := range []uint32{1, 2, 3, 4, 100} {
		var got []string
		token := ""
		for range 20 {
			p, err := r.client.ListProcesses(t.Context(), connect.NewRequest(&pb.ListProcessesRequest{PageSize: size, PageToken: token}))
			if err != nil {
				t.Fatal(err)
			}
			for i, x := range p.Msg.GetProcesses() {
				got = append(got, p.Msg.GetNodes()[i]+" "+x.GetExecId())
			}
			if token = p.Msg.GetNextPageToken(); token == "" {
				break
			}
		}
		want := []string{"a a-1", "a a-2", "a a-3", "b b-1", "b b-2", "b b-3", "c c-1", "c c-2", "c c-3"}
		if !slices.Equal(got, want) {
			t.Errorf("pages of %d: %v", size, got)
		}
	}
}
