// SPDX-License-Identifier: Apache-2.0

package install

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/vigie-io/vigie/api/crd/v1alpha1"
	"github.com/vigie-io/vigie/internal/kube"
	"github.com/vigie-io/vigie/internal/kube/peers"
	"github.com/vigie-io/vigie/internal/kube/policies"
	"github.com/vigie-io/vigie/internal/model"
	"github.com/vigie-io/vigie/internal/pipeline"
	"github.com/vigie-io/vigie/internal/testkit/lab"
)

// nightly is a CronJob, its Job, and that Job's pod on the node n1.
const nightly = `
apiVersion: batch/v1
kind: CronJob
metadata: {name: nightly, namespace: default}
spec: {schedule: "0 3 * * *", jobTemplate: {spec: {template: {spec: {restartPolicy: Never, containers: [{name: a, image: a}]}}}}}
---
apiVersion: v1
kind: ServiceAccount
metadata: {name: default, namespace: default}
`

const nightlyRun = `
apiVersion: batch/v1
kind: Job
metadata: {name: nightly-1, namespace: default, ownerReferences: [{apiVersion: batch/v1, kind: CronJob, name: nightly, uid: %s, controller: true}]}
spec: {template: {spec: {restartPolicy: Never, containers: [{name: a, image: a}]}}}
`

const nightlyPod = `
apiVersion: v1
kind: Pod
metadata: {name: nightly-1-a, namespace: default, ownerReferences: [{apiVersion: batch/v1, kind: Job, name: nightly-1, uid: %s, controller: true}]}
spec: {nodeName: n1, restartPolicy: Never, containers: [{name: a, image: a}]}
`

// foreign is a kind of others that the agent follows where it is installed.
const foreign = `
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: %[2]s.%[1]s, annotations: {api-approved.kubernetes.io: "https://example.org"}}
spec:
  group: %[1]s
  names: {plural: %[2]s, kind: %[3]s}
  scope: %[4]s
  versions: [{name: %[5]s, served: true, storage: true, schema: {openAPIV3Schema: {type: object, x-kubernetes-preserve-unknown-fields: true}}}]
`

const workloadPolicies = `
apiVersion: vigie.io/v1alpha1
kind: WorkloadPolicy
metadata: {name: p, namespace: default}
spec: {selector: {matchLabels: {a: b}}, mode: audit, files: {deny: [{path: /x, access: [read]}]}}
---
apiVersion: vigie.io/v1alpha1
kind: ClusterWorkloadPolicy
metadata: {name: p}
spec: {selector: {matchLabels: {a: b}}, mode: audit, files: {deny: [{path: /x, access: [read]}]}}
`

// breakage is what is missing without a right: how an agent that lacks it shows that.
type breakage func(*follower) bool

// unfollowed: the agent says that it does not follow this, and which right is missing.
func unfollowed(what string) breakage {
	return func(f *follower) bool {
		s := f.client.Status()
		return slices.ContainsFunc(s.Problems(time.Now()), func(p string) bool {
			return strings.Contains(p, what) && strings.Contains(p, "the agent's ClusterRole lacks a right")
		})
	}
}

// breakages is what is missing without each right, by "resource verb": the chart may have no right that is not here.
func breakages() map[string]breakage {
	all := map[string]breakage{
		"jobs get": func(f *follower) bool {
			return strings.Contains(f.log.String(), "a Job stands for what made it") && f.controller().Kind == "Job"
		},
		"events create": func(f *follower) bool { return f.client.Status().Events.Unsent > 0 },
		"events patch": func(f *follower) bool {
			s := f.client.Status().Events
			if s.Sent > 0 {
				f.happen() // again, later: it is told as a count
				f.later.Store(int64(time.Minute))
			}
			return s.Unsent > 0
		},
	}
	for _, resource := range []string{"reports", "policyreports"} {
		for _, verb := range []string{"get", "create", "patch"} {
			all[resource+" "+verb] = func(f *follower) bool { return f.client.Status().Reports.Unsent > 0 }
		}
	}
	for _, what := range []string{"pods", "namespaces", "nodes", "services", "endpointslices"} {
		all[what+" list"], all[what+" watch"] = unfollowed(what), unfollowed(what)
	}
	for _, k := range policies.Kinds() {
		gone := func(f *follower) bool {
			return slices.ContainsFunc(f.policies.Problems(), func(p string) bool { return strings.Contains(p, "kind "+k.Kind+" ") })
		}
		all[k.Resource.Resource+" list"], all[k.Resource.Resource+" watch"] = gone, gone
		if k.Resource.Group == "vigie.io" {
			all[k.Resource.Resource+"/status patch"] = func(f *follower) bool { return apierrors.IsForbidden(f.report(k.Kind)) }
		}
	}
	return all
}

// TestEachRightIsNeeded takes each right of the agent away and sees what breaks, on a real API server. Nothing breaks with all of them.
func TestEachRightIsNeeded(t *testing.T) {
	// An API server that does not begin watches with what there is: with one that does, watch alone would do, and older ones do not.
	api := lab.API(t, "", "--feature-gates=WatchList=false")
	cluster, err := Connect(api.Kubeconfig, "")
	if err != nil {
		t.Fatal(err)
	}
	var role *unstructured.Unstructured
	var objects []*unstructured.Unstructured
	for _, o := range render(t, map[string]any{"namespace": map[string]any{"create": true}, "relay": map[string]any{"enabled": false}}) {
		switch o.GetKind() {
		case "ClusterRole":
			role = o
			objects = append(objects, o)
		case "Namespace", "ServiceAccount", "ClusterRoleBinding", "CustomResourceDefinition":
			objects = append(objects, o)
		}
	}
	if err := cluster.Apply(t.Context(), objects); err != nil {
		t.Fatal(err)
	}
	uid := func(kind, name string) string {
		out, err := api.Kubectl(t.Context(), "get", kind, name, "-o", "jsonpath={.metadata.uid}").Output()
		if err != nil {
			t.Fatal(err)
		}
		return string(out)
	}
	api.Apply(t, "{apiVersion: v1, kind: Node, metadata: {name: n1}}")
	for _, k := range policies.Kinds()[1:4] {
		scope := "Cluster"
		if k.Kind == "CiliumNetworkPolicy" {
			scope = "Namespaced"
		}
		api.Apply(t, fmt.Sprintf(foreign, k.Resource.Group, k.Resource.Resource, k.Kind, scope, k.Resource.Version))
	}
	for _, r := range [][2]string{{"openreports.io/v1alpha1", "reports/Report"}, {"wgpolicyk8s.io/v1alpha2", "policyreports/PolicyReport"}} {
		group, version, _ := strings.Cut(r[0], "/")
		plural, kind, _ := strings.Cut(r[1], "/")
		api.Apply(t, fmt.Sprintf(foreign, group, plural, kind, "Namespaced", version))
	}
	api.Apply(t, workloadPolicies)
	api.Apply(t, nightly)
	api.Apply(t, fmt.Sprintf(nightlyRun, uid("cronjob", "nightly")))
	api.Apply(t, fmt.Sprintf(nightlyPod, uid("job", "nightly-1")))
	account := accountConfig(t, api, "vigie-agent")

	f := follow(t, account)
	f.await(t, "a healthy agent with all rights", func() bool {
		s := f.client.Status()
		if _, all := f.policies.Objects(); !all || len(f.policies.Problems()) > 0 || f.report("WorkloadPolicy") != nil || f.report("ClusterWorkloadPolicy") != nil {
			return false
		}
		return s.Synced && len(s.Problems(time.Now())) == 0 && f.controller() == model.Controller{Kind: "CronJob", Name: "nightly"} && s.Events.Sent == 1 && s.Reports.Sent == 1
	})
	f.stop()

	known := breakages()
	rules, _, err := unstructured.NestedSlice(role.Object, "rules")
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range rules {
		rule := r.(map[string]any)
		for _, resource := range rule["resources"].([]any) {
			for _, verb := range rule["verbs"].([]any) {
				right := fmt.Sprint(resource, " ", verb)
				t.Run(right, func(t *testing.T) {
					breaks, ok := known[right]
					if !ok {
						t.Fatalf("nobody knows what the right is for")
					}
					delete(known, right)
					less := role.DeepCopy()
					less.Object["rules"] = without(rules, resource, verb)
					if err := cluster.Apply(t.Context(), append(slices.DeleteFunc(slices.Clone(objects), func(o *unstructured.Unstructured) bool { return o == role }), less)); err != nil {
						t.Fatal(err)
					}
					if resource == "policyreports" { // of use where there are no others
						if out, err := api.Kubectl(t.Context(), "delete", "crd", "reports.openreports.io", "--ignore-not-found").CombinedOutput(); err != nil {
							t.Fatalf("%v: %s", err, out)
						}
					}
					f := follow(t, account)
					f.await(t, "what breaks without it", func() bool { return breaks(f) })
				})
			}
		}
	}
	for right := range known {
		t.Errorf("the chart lacks the right %s", right)
	}
}

// TestEachRightOfTheRelayIsNeeded does the same for the relay, which follows the agents' pods and nothing else.
func TestEachRightOfTheRelayIsNeeded(t *testing.T) {
	api := lab.API(t, "", "--feature-gates=WatchList=false")
	cluster, err := Connect(api.Kubeconfig, "")
	if err != nil {
		t.Fatal(err)
	}
	var role *unstructured.Unstructured
	var objects []*unstructured.Unstructured
	for _, o := range render(t, map[string]any{"namespace": map[string]any{"create": true}}) {
		switch o.GetKind() {
		case "Namespace", "ServiceAccount", "RoleBinding":
			objects = append(objects, o)
		case "Role":
			role = o
		}
	}
	rules, _, err := unstructured.NestedSlice(role.Object, "rules")
	if err != nil || len(rules) != 1 {
		t.Fatalf("the relay has the rules %v (%v), one is tried here", rules, err)
	}
	if err := cluster.Apply(t.Context(), objects); err != nil {
		t.Fatal(err)
	}
	account := accountConfig(t, api, "vigie-relay")
	for _, missing := range []string{"", "list", "watch"} {
		t.Run("without "+missing, func(t *testing.T) {
			less := role.DeepCopy()
			less.Object["rules"] = without(rules, "pods", missing)
			if err := cluster.Apply(t.Context(), append(slices.Clone(objects), less)); err != nil {
				t.Fatal(err)
			}
			way, err := peers.Of(account, "", "test")
			if err != nil {
				t.Fatal(err)
			}
			log := new(locked)
			agents := &peers.Agents{Cluster: way, Log: slog.New(slog.NewTextHandler(log, nil))}
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			if missing == "" {
				if err := agents.Follow(ctx, func([]peers.Agent) { cancel() }); err != nil || !errors.Is(context.Cause(ctx), context.Canceled) || log.String() != "" {
					t.Errorf("with all rights: %v, %v, %s", err, context.Cause(ctx), log)
				}
				return
			}
			var running sync.WaitGroup
			running.Go(func() { _ = agents.Follow(ctx, func([]peers.Agent) {}) }) // its trouble is in the log
			for !strings.Contains(log.String(), "the agents' pods are not followed at the moment") && ctx.Err() == nil {
				time.Sleep(50 * time.Millisecond)
			}
			if ctx.Err() != nil {
				t.Errorf("nothing is said: %s", log)
			}
			cancel()
			running.Wait()
		})
	}
}

// without is the rules less one verb on one resource.
func without(rules []any, resource, verb any) []any {
	var out []any
	for _, r := range rules {
		rule := map[string]any{}
		for k, v := range r.(map[string]any) {
			rule[k] = v
		}
		if slices.Contains(rule["resources"].([]any), resource) {
			rule["verbs"] = slices.DeleteFunc(slices.Clone(rule["verbs"].([]any)), func(v any) bool { return v == verb })
		}
		if len(rule["verbs"].([]any)) > 0 {
			out = append(out, rule)
		}
	}
	return out
}

// accountConfig writes a kubeconfig for a service account of the installation.
func accountConfig(t *testing.T, api *lab.Cluster, account string) string {
	t.Helper()
	get := func(args ...string) string {
		out, err := api.Kubectl(t.Context(), args...).Output()
		if err != nil {
			t.Fatal(err)
		}
		return strings.TrimSpace(string(out))
	}
	ca, err := os.ReadFile(filepath.Join(api.Dir, "pki/ca.crt"))
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "kubeconfig")
	text := fmt.Sprintf(`{apiVersion: v1, kind: Config, current-context: a, contexts: [{name: a, context: {cluster: a, user: a, namespace: vigie-system}}], users: [{name: a, user: {token: %s}}],
clusters: [{name: a, cluster: {server: %q, certificate-authority-data: %s}}]}`, get("-n", "vigie-system", "create", "token", account),
		get("config", "view", "-o", "jsonpath={.clusters[0].cluster.server}"), base64.StdEncoding.EncodeToString(ca))
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// follower is what an agent knows of the cluster.
type follower struct {
	client   *kube.Client
	policies *policies.Watcher
	log      *locked
	uid      string       // of the pod, another one for each follower: nothing was told of it before
	later    atomic.Int64 // how far its clock is ahead
	stop     func()
}

// follow starts one, to which something has happened in the pod.
func follow(t *testing.T, kubeconfig string) *follower {
	t.Helper()
	f := &follower{log: new(locked), uid: fmt.Sprintf("u%d", time.Now().UnixNano())}
	log := slog.New(slog.NewTextHandler(f.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	client, err := kube.Open(kube.Options{Choice: kubeconfig, Node: "n1", Version: "test", Losses: new(pipeline.Losses), Log: log,
		Now: func() time.Time { return time.Now().Add(time.Duration(f.later.Load())) }})
	if err != nil {
		t.Fatal(err)
	}
	config, err := kube.RestConfig(kubeconfig, "test")
	if err != nil {
		t.Fatal(err)
	}
	f.client = client
	if f.policies, err = policies.New(policies.Options{Config: config, Kinds: policies.Kinds(), Log: log}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { client.Run(ctx) })
	running.Go(func() { f.policies.Run(ctx) })
	f.stop = sync.OnceFunc(func() {
		cancel()
		running.Wait()
	})
	t.Cleanup(f.stop)
	f.happen()
	return f
}

func (f *follower) happen() {
	o := kube.Occurrence{Namespace: "default", Pod: "nightly-1-a", UID: f.uid, Reason: "PolicyDenied", Action: "exec", Policy: "p", Rule: "r", Note: "n", Time: time.Now()}
	f.client.Events().Add(o)
	f.client.Reports().Add(o)
}

// report says how the policy of this kind is doing.
func (f *follower) report(kind string) error {
	list, _ := f.policies.Objects()
	for _, o := range list {
		if o.Kind == kind {
			return f.policies.Report(context.Background(), o, v1alpha1.NodeStatus{Name: "n1", State: "in force", Mode: "audit"})
		}
	}
	return fmt.Errorf("no %s is known yet", kind)
}

// controller is what stands for the pod of the Job.
func (f *follower) controller() model.Controller {
	for _, p := range f.client.View().Snapshot().Pods {
		if p.Name == "nightly-1-a" {
			return p.Controller
		}
	}
	return model.Controller{}
}

func (f *follower) await(t *testing.T, what string, met func() bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); !met(); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(end) {
			s := f.client.Status()
			text := f.log.String()
			t.Fatalf("waited in vain for %s: %+v\nproblems %q %q\ncontroller %v, reports %v\n%s", what, s, s.Problems(time.Now()), f.policies.Problems(), f.controller(),
				f.report("WorkloadPolicy"), text[max(0, len(text)-3000):])
		}
	}
}

// locked is a log that is read while it is written.
type locked struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *locked) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

func (l *locked) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}
