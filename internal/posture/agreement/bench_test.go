// SPDX-License-Identifier: Apache-2.0

package agreement

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	admv1 "k8s.io/api/admissionregistration/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	admissionapi "k8s.io/apiserver/pkg/admission"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/vigie-io/vigie/internal/posture/admission"
	"github.com/vigie-io/vigie/internal/posture/control"
	"github.com/vigie-io/vigie/internal/posture/engine"
	"github.com/vigie-io/vigie/internal/posture/scan"
	"github.com/vigie-io/vigie/internal/testkit/lab"
)

// bench is an API server with a namespace for each way to admit.
type bench struct {
	*testing.B
	client     *http.Client
	url        string
	kubeconfig string
}

func startBench(b *testing.B) *bench {
	b.Helper()
	api := lab.API(b, "1.36", "--disable-admission-plugins=ServiceAccount", "--max-requests-inflight=0", "--max-mutating-requests-inflight=0", "--enable-priority-and-fairness=false")
	config, err := clientcmd.BuildConfigFromFlags("", api.Kubeconfig)
	if err != nil {
		b.Fatal(err)
	}
	config.QPS = -1
	s := &bench{B: b, url: config.Host, kubeconfig: api.Kubeconfig}
	if s.client, err = rest.HTTPClientFor(config); err != nil {
		b.Fatal(err)
	}
	return s
}

func (s *bench) post(path string, object any) (time.Duration, string) {
	text, err := json.Marshal(object)
	if err != nil {
		s.Fatal(err)
	}
	req, err := http.NewRequestWithContext(context.Background(), http.MethodPost, s.url+path, bytes.NewReader(text))
	if err != nil {
		s.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	began := time.Now()
	resp, err := s.client.Do(req)
	if err != nil {
		s.Fatal(err)
	}
	body, err := io.ReadAll(resp.Body)
	took := time.Since(began)
	resp.Body.Close()
	if err != nil || resp.StatusCode >= 300 {
		s.Fatalf("%s: %d %s %v", path, resp.StatusCode, body, err)
	}
	return took, resp.Header.Get("Warning")
}

// ways are how a request may be admitted; each has a namespace with its name as the label "way".
func ways() []string { return []string{"nothing", "webhook", "bundle", "separate"} }

// only binds policies to the namespaces of one way.
func only(way string) *admv1.MatchResources {
	return &admv1.MatchResources{NamespaceSelector: &metav1.LabelSelector{MatchLabels: map[string]string{"way": way}}}
}

// BenchmarkAdmission is the time of creating a pod (dry run) with no policy, with a webhook on this machine that says yes, with all
// controls as vigie compiles them, and with one policy for each control; in turns.
func BenchmarkAdmission(b *testing.B) {
	s := startBench(b)
	for _, way := range ways() {
		s.post("/api/v1/namespaces", map[string]any{"apiVersion": "v1", "kind": "Namespace", "metadata": map[string]any{"name": way, "labels": map[string]any{"way": way}}})
	}
	asked := s.webhook()
	s.policies()
	pod := func(way string) map[string]any { return inNamespace(pod("p", nil), way) }
	await := func(way string) {
		for end := time.Now().Add(time.Minute); ; {
			if _, warning := s.post("/api/v1/namespaces/"+way+"/pods"+dry, pod(way)); warning != "" {
				return
			}
			if time.Now().After(end) {
				b.Fatalf("%s is not in force", way)
			}
		}
	}
	await("bundle")
	await("separate")
	if s.post("/api/v1/namespaces/webhook/pods"+dry, pod("webhook")); asked.Load() == 0 {
		b.Fatal("the webhook is not asked")
	}
	took := map[string][]time.Duration{}
	for b.Loop() {
		for _, way := range ways() {
			d, _ := s.post("/api/v1/namespaces/"+way+"/pods"+dry, pod(way))
			took[way] = append(took[way], d)
		}
	}
	for _, way := range ways() {
		all := took[way]
		slices.Sort(all)
		b.ReportMetric(float64(all[len(all)/2].Microseconds()), way+"-p50-µs")
		b.ReportMetric(float64(all[len(all)*99/100].Microseconds()), way+"-p99-µs")
	}
}

// BenchmarkEngine is the time for an object before all controls, by the API server's plug-in and by the engine of scans, in turns: what it
// is worth that scans run the same programs without the plug-in around them.
func BenchmarkEngine(b *testing.B) {
	controls, err := control.Default()
	if err != nil {
		b.Fatal(err)
	}
	j, err := scan.NewJudge(controls, engine.Version{Major: 1, Minor: 36}, nil)
	if err != nil {
		b.Fatal(err)
	}
	plugin, interfaces := startPlugin(b, j.Controls), admissionapi.NewObjectInterfacesFromScheme(scheme.Scheme)
	var requests []engine.Request
	for _, c := range j.Controls {
		examples, err := c.Examples()
		if err != nil {
			b.Fatal(err)
		}
		for _, e := range examples {
			r, err := j.RequestOf(e)
			if err != nil {
				b.Fatal(err)
			}
			if r.Object.Served == r.Object.Kind {
				requests = append(requests, r)
			}
		}
	}
	var took [2]time.Duration
	round := func() {
		for _, r := range requests {
			began := time.Now()
			byPlugin(b, plugin, interfaces, r)
			between := time.Now()
			byEngine(b, j, r)
			took[0], took[1] = took[0]+between.Sub(began), took[1]+time.Since(between)
		}
	}
	round() // both compile what they need when it is asked for first
	took = [2]time.Duration{}
	rounds := 0
	for b.Loop() {
		round()
		rounds++
	}
	n := float64(rounds * len(requests))
	b.ReportMetric(float64(took[0].Microseconds())/n, "plug-in-µs/object")
	b.ReportMetric(float64(took[1].Microseconds())/n, "scan-µs/object")
}

// webhook is one that says yes to everything, and counts.
func (s *bench) webhook() *atomic.Int64 {
	asked := &atomic.Int64{}
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var review struct {
			Request struct{ UID string }
		}
		if err := json.NewDecoder(r.Body).Decode(&review); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		asked.Add(1)
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprintf(w, `{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","response":{"uid":%q,"allowed":true}}`, review.Request.UID)
	}))
	server.TLS = &tls.Config{MinVersion: tls.VersionTLS12}
	server.StartTLS()
	s.Cleanup(server.Close)
	ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
	s.post("/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations", map[string]any{"apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingWebhookConfiguration",
		"metadata": map[string]any{"name": "yes"}, "webhooks": []any{map[string]any{"name": "yes.example.org", "sideEffects": "None", "admissionReviewVersions": []any{"v1"},
			"clientConfig": map[string]any{"url": server.URL, "caBundle": ca}, "namespaceSelector": map[string]any{"matchLabels": map[string]any{"way": "webhook"}},
			"rules": []any{map[string]any{"apiGroups": []any{""}, "apiVersions": []any{"v1"}, "operations": []any{"CREATE"}, "resources": []any{"pods"}}}}}})
	return asked
}

// policies are all controls at warn, once compiled and once one by one.
func (s *bench) policies() {
	controls, err := control.Default()
	if err != nil {
		s.Fatal(err)
	}
	bundle, err := admission.Compile(admission.Plan{Controls: controls, Step: admission.Warn, Target: engine.Version{Major: 1, Minor: 37}})
	if err != nil {
		s.Fatal(err)
	}
	for i, p := range bundle.Policies {
		bundle.Bindings[i].Spec.MatchResources = only("bundle")
		s.put("validatingadmissionpolicies", p)
		s.put("validatingadmissionpolicybindings", bundle.Bindings[i])
	}
	n := 0
	for _, c := range controls {
		if c.ScanOnly() || len(c.Parameters) > 0 || c.Match != "pods" {
			continue
		}
		n++
		one, err := admission.Compile(admission.Plan{Controls: []*control.Control{c}, Step: admission.Warn, Target: engine.Version{Major: 1, Minor: 37}})
		if err != nil {
			s.Fatal(err)
		}
		p, binding := one.Policies[0], one.Bindings[0]
		p.Name, binding.Name, binding.Spec.PolicyName, binding.Spec.MatchResources = c.ID, c.ID, c.ID, only("separate")
		s.put("validatingadmissionpolicies", p)
		s.put("validatingadmissionpolicybindings", binding)
	}
	s.Logf("%d policies by vigie, %d one by one", len(bundle.Policies), n)
}

func (s *bench) put(resource string, o runtime.Object) {
	s.post("/apis/admissionregistration.k8s.io/v1/"+resource, o)
}

// BenchmarkScanCluster scans 20,000 objects of a real API server by the command, and says what a client's requests took meanwhile and
// without, in turns. The command has the lowest priority: it competes with the API server for this machine's cores, as one somewhere
// else does not.
func BenchmarkScanCluster(b *testing.B) {
	s := startBench(b)
	vigie := filepath.Join(b.TempDir(), "vigie")
	build := exec.Command("go", "build", "-trimpath", "-buildvcs=false", "-ldflags", "-s -w", "-o", vigie, "../../../cmd/vigie")
	if out, err := build.CombinedOutput(); err != nil {
		b.Fatalf("build vigie: %v\n%s", err, out)
	}
	const objects = 20_000
	s.fill(objects)
	var idle, busy []time.Duration
	var took time.Duration
	rounds := 0
	for ; b.Loop(); rounds++ {
		idle = append(idle, s.ask(func() { <-time.After(15 * time.Second) })...)
		busy = append(busy, s.ask(func() {
			began := time.Now()
			out, err := exec.CommandContext(b.Context(), "nice", "-n", "19", vigie, "scan", "cluster", "--kubeconfig", s.kubeconfig, "--fail-on", "none", "-o", "json").Output()
			took += time.Since(began)
			var report struct{ Objects int }
			if err = errors.Join(err, json.Unmarshal(out, &report)); err != nil || report.Objects < objects {
				b.Errorf("%d objects scanned: %v", report.Objects, err)
			}
		})...)
	}
	b.ReportMetric(took.Seconds()/float64(rounds), "scan-s")
	for name, all := range map[string][]time.Duration{"idle": idle, "busy": busy} {
		slices.Sort(all)
		b.ReportMetric(float64(all[len(all)/2].Microseconds()), name+"-p50-µs")
		b.ReportMetric(float64(all[len(all)*99/100].Microseconds()), name+"-p99-µs")
	}
}

// ask times small requests until do has ended.
func (s *bench) ask(do func()) []time.Duration {
	done := make(chan struct{})
	go func() {
		defer close(done)
		do()
	}()
	var took []time.Duration
	for n := 0; ; n++ {
		select {
		case <-done:
			return took
		case <-time.After(10 * time.Millisecond):
			d, _ := s.post("/api/v1/namespaces/default/configmaps"+dry, map[string]any{"apiVersion": "v1", "kind": "ConfigMap", "metadata": map[string]any{"name": fmt.Sprintf("ask-%d", n)}})
			took = append(took, d)
		}
	}
}

// fill makes objects: deployments with services, in a hundred namespaces.
func (s *bench) fill(n int) {
	for i := range 100 {
		s.post("/api/v1/namespaces", map[string]any{"apiVersion": "v1", "kind": "Namespace", "metadata": map[string]any{"name": fmt.Sprintf("n-%d", i)}})
	}
	work := make(chan int)
	var wait sync.WaitGroup
	for range 8 {
		wait.Go(func() {
			for i := range work {
				ns, name := fmt.Sprintf("n-%d", i%100), fmt.Sprintf("web-%d", i)
				labels := map[string]any{"app": name}
				if i%2 == 0 {
					s.post("/api/v1/namespaces/"+ns+"/services", map[string]any{"apiVersion": "v1", "kind": "Service", "metadata": map[string]any{"name": name},
						"spec": map[string]any{"clusterIP": "None", "selector": labels, "ports": []any{map[string]any{"port": 80}}}})
					continue
				}
				template := map[string]any{"metadata": map[string]any{"labels": labels}, "spec": pod("x", nil)["spec"]}
				s.post("/apis/apps/v1/namespaces/"+ns+"/deployments", map[string]any{"apiVersion": "apps/v1", "kind": "Deployment", "metadata": map[string]any{"name": name},
					"spec": map[string]any{"selector": map[string]any{"matchLabels": labels}, "template": template}})
			}
		})
	}
	for i := range n {
		work <- i
	}
	close(work)
	wait.Wait()
}
