// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/vigie-io/vigie/internal/kube"
	"github.com/vigie-io/vigie/internal/model"
)

// TestOccurrence: what is told of pods, and that nothing else is.
func TestOccurrence(t *testing.T) {
	at := time.Unix(1_800_000_000, 0)
	pod := &model.Workload{Kind: model.WorkloadPod, Namespace: "shop", Name: "web-0", PodUID: "u", Container: "web"}
	event := func(w *model.Workload, change func(*model.Event)) *model.Event {
		ev := &model.Event{Time: at, Count: 3, Process: &model.Process{Binary: "/bin/sh", Workload: w}}
		change(ev)
		return ev
	}
	denied := func(ev *model.Event) {
		ev.Verdict = &model.Verdict{Action: model.VerdictDenied, Policy: "web", Rule: "egress.allow", Operation: model.OpConnect, Guarantee: model.DeniedBefore,
			Protocol: "tcp", Remote: netip.MustParseAddrPort("192.0.2.1:443"), RemoteName: "example.org"}
	}
	alert := func(ev *model.Event) {
		ev.Alert = &model.Alert{Rule: "shell_from_server", Title: "a server started a shell", Severity: model.SeverityHigh}
	}
	for name, c := range map[string]struct {
		ev   *model.Event
		want kube.Occurrence
	}{
		"denied": {event(pod, denied), kube.Occurrence{Reason: "PolicyDenied", Action: "connect", Policy: "web", Rule: "egress.allow", Result: "fail",
			Note: "/bin/sh in container web: connect example.org (192.0.2.1:443/tcp) was denied by policy web, egress.allow (denied before it happens)"}},
		"killed": {event(pod, func(ev *model.Event) {
			ev.Verdict = &model.Verdict{Action: model.VerdictKilled, Policy: "web", Rule: "processes.allow", Operation: model.OpExec, Path: "/usr/bin/curl", Guarantee: model.KilledBefore}
		}), kube.Occurrence{Reason: "PolicyKilled", Action: "exec", Policy: "web", Rule: "processes.allow", Result: "fail",
			Note: "/bin/sh in container web: exec /usr/bin/curl was killed by policy web, processes.allow (killed before the first instruction)"}},
		"audited": {event(pod, func(ev *model.Event) {
			denied(ev)
			ev.Verdict.Action = model.VerdictAudited
		}), kube.Occurrence{Reason: auditedReason, Action: "connect", Policy: "web", Rule: "egress.allow", Result: "warn",
			Note: "/bin/sh in container web: policy web, egress.allow would have denied connect example.org (192.0.2.1:443/tcp)"}},
		"alert": {event(pod, alert), kube.Occurrence{Reason: "Alert", Action: "high", Policy: "shell_from_server", Result: "warn", Severity: "high",
			Note: "/bin/sh in container web: a server started a shell (rule shell_from_server, high)"}},
	} {
		c.want.Namespace, c.want.Pod, c.want.UID, c.want.Time, c.want.Count = "shop", "web-0", "u", at, 3
		if got, ok := occurrence(c.ev); !ok || got != c.want {
			t.Errorf("%s: got  %+v\nwant %+v", name, got, c.want)
		}
	}
	for name, ev := range map[string]*model.Event{
		"of a unit":          event(&model.Workload{Kind: model.WorkloadUnit, Name: "nginx.service"}, denied),
		"of a pod unnamed":   event(&model.Workload{Kind: model.WorkloadPod, Name: "u", PodUID: "u"}, alert),
		"something ordinary": event(pod, func(*model.Event) {}),
		"of nobody":          {Alert: &model.Alert{}},
	} {
		if got, ok := occurrence(ev); ok {
			t.Errorf("%s is told: %+v", name, got)
		}
	}
}

func TestKubeConfig(t *testing.T) {
	for _, c := range []struct {
		change func(*Config)
		want   string
	}{
		{func(*Config) {}, ""},
		{func(c *Config) { c.Kube = kube.Off }, ""},
		{func(c *Config) { c.Kube = "/etc/kubeconfig" }, ""},
		{func(c *Config) { c.Kube = "" }, "kube: is empty"},
		{func(c *Config) { c.Kube = "kubeconfig" }, "no absolute path"},
		{func(c *Config) { c.KubePods = "all" }, "kube-pods"},
		{func(c *Config) { c.KubeEvents = "yes" }, "kube-events"},
	} {
		config := Default()
		c.change(&config)
		err := config.Validate()
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%v, want %q", err, c.want)
		}
	}
}
