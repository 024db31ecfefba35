// SPDX-License-Identifier: Apache-2.0

package lifecycle

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/vigie-io/vigie/internal/model"
)

// scene is a pod's events; times are in seconds.
type scene struct {
	events []*model.Event
	job    bool
}

func at(second float64) time.Time {
	return time.Unix(1_800_000_000, 0).Add(time.Duration(second * float64(time.Second)))
}

func (s *scene) event(second float64, container, id string, pid uint32, binary string) *model.Event {
	w := &model.Workload{Kind: model.WorkloadPod, Namespace: "shop", Name: "web", PodUID: "u", Container: container, ID: id}
	if s.job {
		w.Controller = model.Controller{Kind: "CronJob", Name: "import"}
	}
	ev := &model.Event{Time: at(second), Key: model.ProcessKey{PID: pid}, Process: &model.Process{Key: model.ProcessKey{PID: pid}, Binary: binary, Workload: w}}
	s.events = append(s.events, ev)
	return ev
}

func (s *scene) exec(second float64, container, id string, pid uint32, binary string) {
	s.event(second, container, id, pid, binary).Type = model.TypeExec
}

func (s *scene) exit(second float64, container, id string, pid uint32, code int32, signal uint32) {
	ev := s.event(second, container, id, pid, "")
	ev.Type, ev.Exit = model.TypeExit, &model.Exit{Code: code, Signal: signal}
}

func (s *scene) listen(second float64, container, id string, pid uint32, addr string) {
	ev := s.event(second, container, id, pid, "")
	ev.Type, ev.Socket = model.TypeListen, &model.Socket{Local: netip.MustParseAddrPort(addr)}
}

func pod(containers ...model.PodContainer) *model.Pod {
	return &model.Pod{UID: "u", Namespace: "shop", Name: "web", Containers: containers}
}

var (
	app     = model.PodContainer{Name: "app", Role: model.AppContainer, Image: "app:1"}
	proxy   = model.PodContainer{Name: "istio-proxy", Role: model.AppContainer}
	sidecar = model.PodContainer{Name: "proxy", Role: model.SidecarContainer}
	migrate = model.PodContainer{Name: "migrate", Role: model.InitContainer}
)

func TestProblems(t *testing.T) {
	for name, c := range map[string]struct {
		pod  *model.Pod
		job  bool
		play func(*scene)
		want string // kinds, with spaces between them
		says string
	}{
		"in good order": {pod: pod(migrate, sidecar, app), play: func(s *scene) {
			s.exec(0, "migrate", "m", 10, "/migrate")
			s.exit(1, "migrate", "m", 10, 0, 0)
			s.exec(2, "proxy", "p", 20, "/proxy")
			s.listen(2.5, "proxy", "p", 20, "127.0.0.1:15001")
			s.exec(3, "app", "a", 30, "/app")
			s.exit(10, "app", "a", 30, 0, 0)
			s.exit(11, "proxy", "p", 20, 0, 15)
		}},
		"app before its native sidecar listens": {pod: pod(sidecar, app), play: func(s *scene) {
			s.exec(2, "proxy", "p", 20, "/proxy")
			s.exec(3, "app", "a", 30, "/app")
			s.listen(4.2, "proxy", "p", 20, "127.0.0.1:15001")
		}, want: AppBeforeProxy, says: "starts 1.2s before proxy listens on 127.0.0.1:15001, so its first connections can fail. Of proxy: give it a startupProbe"},
		"app before an ordinary proxy, which ends first": {pod: pod(app, proxy), play: func(s *scene) {
			s.exec(2, "app", "a", 30, "/app")
			s.exec(2, "istio-proxy", "p", 20, "/envoy")
			s.listen(3, "istio-proxy", "p", 20, "0.0.0.0:15001")
			s.exit(10, "istio-proxy", "p", 20, 0, 0)
			s.exit(12, "app", "a", 30, 0, 9)
		}, want: AppBeforeProxy + " " + ProxyEndsBeforeApp, says: "ran 2s without it: make it an init container"},
		"sidecar outlives its job": {pod: pod(app, proxy), job: true, play: func(s *scene) {
			s.exec(1, "istio-proxy", "p", 20, "/envoy")
			s.listen(1, "istio-proxy", "p", 20, "0.0.0.0:15001")
			s.exec(2, "app", "a", 30, "/import")
			s.exit(60, "app", "a", 30, 0, 0)
		}, want: SidecarOutlivesJob, says: "istio-proxy has been running on for 1m0s after app of the job ended (exit 0)"},
		"native sidecar of a job": {pod: pod(sidecar, app), job: true, play: func(s *scene) {
			s.exec(1, "proxy", "p", 20, "/envoy")
			s.exec(2, "app", "a", 30, "/import")
			s.exit(60, "app", "a", 30, 0, 0)
		}},
		"two parts of a job": {pod: pod(app, model.PodContainer{Name: "other", Role: model.AppContainer}), job: true, play: func(s *scene) {
			s.exec(1, "app", "a", 20, "/one")
			s.exec(1, "other", "o", 30, "/two")
			s.exit(30, "app", "a", 20, 0, 0)
			s.exit(90, "other", "o", 30, 0, 0)
		}},
		"init container fails": {pod: pod(migrate, app), play: func(s *scene) {
			s.exec(0, "migrate", "m1", 10, "/migrate")
			s.exit(1, "migrate", "m1", 10, 1, 0)
			s.exec(10, "migrate", "m2", 11, "/migrate")
			s.exit(11, "migrate", "m2", 11, 1, 0)
		}, want: InitContainerFailed, says: "ended with exit 1 in run 2"},
		"app restarts": {pod: pod(app), play: func(s *scene) {
			s.exec(0, "app", "a1", 10, "/app")
			s.exit(1, "app", "a1", 10, 0, 9)
			s.exec(10, "app", "a2", 11, "/app")
		}, want: Restarted, says: "started 2 times; the run before this one ended with signal 9"},
	} {
		t.Run(name, func(t *testing.T) {
			s := &scene{job: c.job}
			c.play(s)
			got := Of(c.pod, s.events, at(120))
			var kinds, texts []string
			for _, p := range got.Problems {
				kinds, texts = append(kinds, p.Kind), append(texts, p.Text)
			}
			if strings.Join(kinds, " ") != c.want {
				t.Errorf("problems %v, want %q", texts, c.want)
			}
			if !strings.Contains(strings.Join(texts, "\n"), c.says) {
				t.Errorf("told %q, want %q in it", texts, c.says)
			}
		})
	}
}

// TestTimeline: what is known of the containers and what was seen of them come together; the runtime's own programs, probes and the
// sandbox are no part of it.
func TestTimeline(t *testing.T) {
	s := &scene{}
	s.exec(0, "POD", "sandbox", 5, "/pause")
	s.exec(1, "app", "a", 10, "/usr/bin/runc")
	s.exec(1.1, "app", "a", 10, "/app")
	s.exec(2, "app", "a", 11, "/bin/probe")
	s.exit(2.1, "app", "a", 11, 1, 0)
	s.listen(3, "app", "a", 10, "[::]:80")
	s.listen(4, "app", "a", 10, "[::]:80")
	s.exec(5, "debugger", "d", 12, "/bin/sh")
	s.exit(6, "app", "a", 10, 3, 0)
	got := Of(pod(migrate, app), s.events, at(10))
	if len(got.Containers) != 3 || got.Containers[0].Name != "migrate" || len(got.Containers[0].Runs) != 0 || got.Containers[2].Name != "debugger" {
		t.Fatalf("containers: %+v", got.Containers)
	}
	a := got.Containers[1]
	if len(a.Runs) != 1 || a.Image != "app:1" {
		t.Fatalf("app: %+v", a)
	}
	if r := a.Runs[0]; r.Binary != "/app" || !r.Started.Equal(at(1.1)) || !r.Ended.Equal(at(6)) || r.Code != 3 || len(r.Listens) != 1 {
		t.Errorf("run: %+v", r)
	}
	// A pod that is gone.
	gone := Of(nil, s.events, at(10))
	if gone.Namespace != "shop" || gone.Name != "web" || gone.UID != "u" || len(gone.Containers) != 2 {
		t.Errorf("gone: %+v", gone)
	}
}
