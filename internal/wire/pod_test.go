// SPDX-License-Identifier: Apache-2.0

package wire

import (
	"net/netip"
	"reflect"
	"testing"
	"time"

	"github.com/vigie-io/vigie/internal/model"
)

func TestPod(t *testing.T) {
	p := &model.Pod{UID: "u", Namespace: "shop", Name: "web-0", Labels: map[string]string{"app": "web"}, Controller: model.Controller{Kind: "Deployment", Name: "web"},
		ServiceAccount: "web", Node: "here", Addresses: []netip.Addr{netip.MustParseAddr("10.1.0.2"), netip.MustParseAddr("2001:db8::2")}, HostNetwork: true,
		Created: time.Unix(1_800_000_000, 0).UTC(), Ended: true,
		Containers: []model.PodContainer{{Name: "proxy", Role: model.SidecarContainer, Image: "proxy:1", ID: "abc"}, {Name: "web", Role: model.AppContainer}}}
	if got := PodFromProto(PodToProto(p)); !reflect.DeepEqual(got, p) {
		t.Errorf("got  %+v\nwant %+v", got, p)
	}
	empty := new(model.Pod)
	if got := PodFromProto(PodToProto(empty)); !reflect.DeepEqual(got, empty) {
		t.Errorf("got %+v, want nothing", got)
	}
}
