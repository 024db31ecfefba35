// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/vigie-io/vigie/internal/capture"
	"github.com/vigie-io/vigie/internal/model"
)

// recordedFlows is a recording of a pod that asks two others, and of a file that it read.
func recordedFlows(t *testing.T) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "pods.vigie")
	w, err := capture.Create(file, capture.Header{BootID: "01234567-89ab-4cde-8f01-23456789abcd", Host: "n1", Start: testNow}, false)
	if err != nil {
		t.Fatal(err)
	}
	end := func(name, address string) model.Endpoint {
		return model.Endpoint{Address: netip.MustParseAddrPort(address), Workload: &model.Workload{Kind: model.WorkloadPod, Namespace: "shop", Name: name,
			PodUID: "uid-of-" + name, Labels: map[string]string{"app": name}}}
	}
	flow := func(seq uint64, from, to model.Endpoint) *model.Event {
		return &model.Event{Type: model.TypeFlow, Seq: seq, Time: testNow.Add(time.Duration(seq) * time.Second), Count: 1,
			Flow: &model.Flow{ID: seq, Report: 1, State: model.FlowClosed, Protocol: "tcp", Source: from, Destination: to, Verdict: model.FlowAllowed}}
	}
	p := proc(7, 1, 3, "web-1", "/usr/bin/web")
	p.Workload = end("web", "10.0.0.1:1").Workload
	opened := fileEvent(p, "/etc/shadow")
	opened.Time = testNow.Add(time.Second)
	web := end("web", "10.0.0.1:40000")
	if err := w.Write([]*model.Event{opened, flow(2, web, end("db", "10.0.0.2:5432")), flow(3, web, end("mail", "10.0.0.3:25"))}); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return file
}

const toDatabase = `
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: web, namespace: shop}
spec:
  podSelector: {matchLabels: {app: web}}
  policyTypes: [Egress]
  egress: [{to: [{podSelector: {matchLabels: {app: db}}}], ports: [{port: 5432}]}]
`

const noShadow = `
---
apiVersion: vigie.io/v1alpha1
kind: WorkloadPolicy
metadata: {name: files}
spec: {selector: {matchLabels: {app: web}}, mode: audit, files: {deny: [/etc/shadow]}}
`

// A recording is judged by policies of both kinds, without an agent; what it has not is said of each policy that asks for it.
func TestSimulateOnARecording(t *testing.T) {
	recording := recordedFlows(t)
	const teams = `
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: teams, namespace: shop}
spec: {podSelector: {}, ingress: [{from: [{namespaceSelector: {matchLabels: {team: a}}}]}]}
`
	notACapture := filepath.Join(t.TempDir(), "text")
	if err := os.WriteFile(notACapture, []byte("kind: no capture"), 0o600); err != nil {
		t.Fatal(err)
	}
	mail := "NetworkPolicy/shop/web  egress"
	for name, c := range map[string]struct {
		policies, capture string
		code              int
		want              []string
		not               string
	}{
		"network":      {toDatabase, recording, 0, []string{mail, "connect shop/mail port 25/tcp", "would have denied 1 of 2 events in " + recording}, "shop/db"},
		"both":         {toDatabase + noShadow, recording, 0, []string{mail, "files.deny[0]", "read /etc/shadow", "would have denied 2 of 3 events"}, "is not judged"},
		"files":        {noShadow, recording, 0, []string{"read /etc/shadow", "would have denied 1 of 1 event"}, "shop/mail"},
		"beside":       {toDatabase + teams, recording, 0, []string{mail, "! NetworkPolicy/shop/teams is not judged: spec.ingress[0] asks for the namespace label team"}, ""},
		"nothing left": {teams, recording, 2, []string{"none of the policies can be judged by a recording", "the namespace label team"}, "would have denied"},
		"no policy":    {"kind: PolicyTest\napiVersion: vigie.io/v1alpha1\nmetadata: {name: x}\n", recording, 2, []string{"there is no WorkloadPolicy in it, nor a network policy"}, ""},
		"no capture":   {toDatabase, notACapture, 2, []string{"read the recording", "no capture"}, "would have denied"},
		"no file":      {toDatabase, notACapture + "-none", 2, []string{"read the recording", "no such file"}, "would have denied"},
	} {
		code, out, stderr := vigie(t, "policy", "simulate", "-f", policyFileOf(t, c.policies), "--capture", c.capture)
		if code != c.code {
			t.Errorf("%s: exit %d, want %d", name, code, c.code)
		}
		for _, want := range c.want {
			if !strings.Contains(out+stderr, want) {
				t.Errorf("%s: %q is missing in\n%s%s", name, want, out, stderr)
			}
		}
		if c.not != "" && strings.Contains(out+stderr, c.not) {
			t.Errorf("%s: %q is in\n%s%s", name, c.not, out, stderr)
		}
	}
}
