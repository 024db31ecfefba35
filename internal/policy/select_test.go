// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"strings"
	"testing"

	"github.com/vigie-io/vigie/internal/model"
)

func TestSelection(t *testing.T) {
	unit := &model.Workload{Kind: model.WorkloadUnit, Name: "nginx.service", Cgroup: "/system.slice/nginx.service"}
	session := &model.Workload{Kind: model.WorkloadSession, Name: "session-3 (alice)", Cgroup: "/user.slice/session-3.scope"}
	container := &model.Workload{Kind: model.WorkloadContainer, Name: "web", Labels: map[string]string{"app": "web", "v": "1"}}
	pod := &model.Workload{Kind: model.WorkloadPod, Name: "web-7d4b", Container: "app", Labels: map[string]string{"app": "web"}}
	process := func(w *model.Workload, uid uint32, binary string) *model.Process {
		return &model.Process{Workload: w, Creds: model.Creds{UID: uid}, Binary: binary}
	}
	master := process(unit, 0, "/usr/sbin/nginx")
	worker := process(unit, 33, "/usr/sbin/nginx")
	shell := process(unit, 33, "/bin/sh")
	parents := map[*model.Process]*model.Process{shell: worker, worker: master}
	before := func(p *model.Process) *model.Process { return parents[p] }
	for _, c := range []struct {
		selector Selector
		process  *model.Process
		want     bool
	}{
		{Selector{}, master, true},
		{Selector{}, process(nil, 0, "/x"), true},
		{Selector{}, &model.Process{KernelThread: true}, false},
		{Selector{Unit: "nginx.service"}, master, true},
		{Selector{Unit: "nginx*"}, shell, true},
		{Selector{Unit: "nginx"}, master, false},
		{Selector{Unit: "nginx*"}, process(nil, 0, "/x"), false},
		{Selector{Unit: "session-3.scope"}, process(session, 0, "/x"), true},
		{Selector{Container: "web"}, process(container, 0, "/x"), true},
		{Selector{Container: "web"}, process(pod, 0, "/x"), false},
		{Selector{Container: "a?p"}, process(pod, 0, "/x"), true},
		{Selector{Container: "*"}, master, false},
		{Selector{MatchLabels: map[string]string{"app": "web"}}, process(pod, 0, "/x"), true},
		{Selector{MatchLabels: map[string]string{"app": "web", "v": "1"}}, process(pod, 0, "/x"), false},
		{Selector{MatchLabels: map[string]string{"app": "web", "v": "1"}, Container: "web"}, process(container, 0, "/x"), true},
		{Selector{User: "www-data"}, worker, true},
		{Selector{User: "www-data"}, master, false},
		{Selector{User: "0"}, shell, true}, // it descends from a process of root
		{Selector{Binary: "/usr/sbin/*"}, shell, true},
		{Selector{Binary: "/usr/*"}, shell, false},
		{Selector{User: "www-data", Binary: "/usr/sbin/nginx"}, shell, true}, // its parent is both
		{Selector{User: "0", Binary: "/bin/sh"}, shell, false},               // never at once
		{Selector{Unit: "db.service", Binary: "/usr/sbin/nginx"}, shell, false},
	} {
		s, err := NewSelection(&c.selector, testEnv())
		if err != nil {
			t.Fatal(err)
		}
		if got := s.Selects(c.process, before); got != c.want {
			t.Errorf("%s selects %s of %d: %v", c.selector.String(), c.process.Binary, c.process.Creds.UID, got)
		}
	}
	if _, err := NewSelection(&Selector{User: "nobody-here"}, testEnv()); err == nil || !strings.Contains(err.Error(), "write the uid") {
		t.Error(err)
	}
	everything := Selector{MatchLabels: map[string]string{"b": "2", "a": "1"}, Unit: "u", User: "0"}
	if got := everything.String(); got != "label a=1, label b=2, unit u, user 0" {
		t.Error(got)
	}
}
