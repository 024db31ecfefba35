// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/vigie-io/vigie/internal/testkit/lab"
)

// noEnv denies a deed of the ticker's.
const noEnv = `
apiVersion: vigie.io/v1alpha1
kind: WorkloadPolicy
metadata: {name: no-actor}
spec:
  selector: {matchLabels: {app: ticker}}
  mode: enforce
  onDenied: kill
  processes:
    deny: [{path: /actor, parent: /actor}]
`

// helped is a job whose helper does not end.
const helped = `
apiVersion: batch/v1
kind: Job
metadata: {name: helped, namespace: starts}
spec:
  template:
    spec:
      nodeName: n1
      restartPolicy: Never
      terminationGracePeriodSeconds: 1
      containers:
      - {name: work, image: lab.test/actor:1, imagePullPolicy: Never, args: [env]}
      - {name: proxy, image: lab.test/actor:1, imagePullPolicy: Never, args: [serve]}
`

// reportKind is openreports.io's Report, of which any fields are taken.
const reportKind = `
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: reports.openreports.io}
spec:
  group: openreports.io
  names: {plural: reports, kind: Report}
  scope: Namespaced
  versions: [{name: v1alpha1, served: true, storage: true, schema: {openAPIV3Schema: {type: object, x-kubernetes-preserve-unknown-fields: true}}}]
`

// TestEventsOnPods: what a policy denies in a pod, again and again, is one Event on it that counts, and a report.
func TestEventsOnPods(t *testing.T) {
	c := lab.Boot(t, lab.Options{Nodes: 1})
	c.Apply(t, reportKind)
	c.Apply(t, ticking)
	a := startAgent(t, c, "n1", "events")
	c.Apply(t, helped)
	policies := filepath.Join(a.dir, "policies")
	if err := os.MkdirAll(policies, 0o755); err != nil {
		t.Fatal(err)
	}
	a.await(t, "the ticker to be seen", func() bool { return len(a.execsOf("starts")) > 0 })
	if err := os.WriteFile(filepath.Join(policies, "no-actor.yaml"), []byte(noEnv), 0o644); err != nil {
		t.Fatal(err)
	}
	type list struct {
		Items []struct {
			Reason, Action, Note, Type             string
			ReportingController, ReportingInstance string
			Regarding                              struct{ Kind, Name, UID string }
			Series                                 struct{ Count int }
		}
	}
	read := func() (l list) {
		out, err := c.Kubectl(t.Context(), "get", "events.events.k8s.io", "-n", "starts", "-o", "json").Output()
		if err == nil {
			err = json.Unmarshal(out, &l)
		}
		if err != nil {
			t.Fatal(err)
		}
		kept := l.Items[:0]
		for _, ev := range l.Items {
			if ev.ReportingController == "vigie.io/agent" {
				kept = append(kept, ev)
			}
		}
		l.Items = kept
		return l
	}
	a.await(t, "an Event that counts", func() bool {
		l := read()
		return len(l.Items) > 0 && l.Items[0].Series.Count > 10
	})
	l := read()
	if len(l.Items) != 1 {
		t.Fatalf("%d Events, want one that counts: %+v", len(l.Items), l.Items)
	}
	ev := l.Items[0]
	if !strings.HasPrefix(ev.Reason, "Policy") || ev.Action != "exec" || ev.Type != "Warning" || ev.ReportingInstance != "n1" || ev.Regarding.Kind != "Pod" ||
		!strings.HasPrefix(ev.Regarding.Name, "ticker-") || !strings.Contains(ev.Note, "/actor in container main") {
		t.Errorf("the Event: %+v", ev)
	}
	uid, err := c.Kubectl(t.Context(), "get", "pod", "-n", "starts", ev.Regarding.Name, "-o", "jsonpath={.metadata.uid}").Output()
	if err != nil || string(uid) != ev.Regarding.UID {
		t.Errorf("it is about %s, the pod is %s (%v)", ev.Regarding.UID, uid, err)
	}

	a.await(t, "a report", func() bool {
		out, err := c.Kubectl(t.Context(), "get", "reports", "-n", "starts", string(uid)+"-runtime", "-o",
			"jsonpath={.scope.name} {.metadata.ownerReferences[0].uid} {.summary.fail} {.results[0].policy} {.results[0].result}").Output()
		return err == nil && string(out) == ev.Regarding.Name+" "+string(uid)+" 1 no-actor fail"
	})

	// The life-cycle of the other job, by now.
	pods, err := c.Kubectl(t.Context(), "get", "pods", "-n", "starts", "-l", "job-name=helped", "-o", "jsonpath={.items[0].metadata.name}").Output()
	if err != nil {
		t.Fatal(err)
	}
	a.await(t, "the helper to be named as the problem", func() bool {
		out := a.output(t, "lifecycle", "starts/"+string(pods))
		return strings.Contains(out, "sidecar-outlives-job: proxy has been running on for")
	})
}
