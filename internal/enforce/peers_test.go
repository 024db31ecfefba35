// SPDX-License-Identifier: Apache-2.0

package enforce

import (
	"net/netip"
	"slices"
	"testing"

	"github.com/vigie-io/vigie/internal/model"
)

func TestListeners(t *testing.T) {
	l := NewListeners(func(netns, pid uint32) []netip.Addr {
		return []netip.Addr{netip.MustParseAddr("127.0.0.1"), netip.MustParseAddr("::1"), netip.MustParseAddr("10.0.0.1")}
	})
	db := &model.Workload{Kind: model.WorkloadUnit, Name: "db.service"}
	listen := func(w *model.Workload, cookie uint64, at string) *model.Event {
		return &model.Event{Type: model.TypeListen, Process: &model.Process{Workload: w},
			Socket: &model.Socket{Cookie: cookie, Local: netip.MustParseAddrPort(at), Direction: "listener"}}
	}
	for i, at := range []string{"127.0.0.1:5432", "0.0.0.0:80", "[::]:81"} {
		if !l.Observe(listen(db, uint64(i+1), at)) {
			t.Errorf("%s changed nothing", at)
		}
	}
	l.Observe(listen(&model.Workload{Name: "other"}, 9, "127.0.0.1:22"))
	isDB := func(w *model.Workload) bool { return w.Name == "db.service" }
	texts := func() (out []string) {
		for _, a := range l.At(isDB) {
			out = append(out, a.String())
		}
		slices.Sort(out)
		return out
	}
	want := []string{"10.0.0.1:80", "10.0.0.1:81", "127.0.0.1:5432", "127.0.0.1:80", "127.0.0.1:81", "[::1]:81"}
	if got := texts(); !slices.Equal(got, want) {
		t.Errorf("at %v, want %v", got, want)
	}
	if l.Observe(&model.Event{Type: model.TypeClose, Socket: &model.Socket{Cookie: 2, Local: netip.MustParseAddrPort("0.0.0.0:80"), Direction: "inbound"}}) {
		t.Error("the end of a connection took a listener away")
	}
	for _, cookie := range []uint64{2, 3} {
		l.Observe(&model.Event{Type: model.TypeClose, Socket: &model.Socket{Cookie: cookie, Local: netip.MustParseAddrPort("0.0.0.0:80"), Direction: "listener"}})
	}
	l.Replace(db, &model.Workload{Name: "db.service", Labels: map[string]string{"app": "db"}})
	if got := l.At(func(w *model.Workload) bool { return w.Labels["app"] == "db" }); len(got) != 1 || got[0].String() != "127.0.0.1:5432" {
		t.Errorf("after the ends at %v", got)
	}
}
