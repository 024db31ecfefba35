// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/vigie-io/vigie/internal/testkit/lab"
)

// reportKinds are the kinds that a controller writes, with any fields.
const reportKinds = `apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: %[1]s.openreports.io}
spec:
  group: openreports.io
  scope: %[2]s
  names: {plural: %[1]s, singular: %[3]s, kind: %[4]s}
  versions:
  - {name: v1alpha1, served: true, storage: true, schema: {openAPIV3Schema: {type: object, x-kubernetes-preserve-unknown-fields: true}}}
---
`

// output is a text that one writes and others read.
type output struct {
	mu sync.Mutex
	b  bytes.Buffer
}

// Write implements io.Writer.
func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.Write(p)
}

func (o *output) text() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.String()
}

// candidate is a controller that is one of several.
type candidate struct {
	log   output
	stop  context.CancelFunc
	ended chan int // its exit code
}

var leads = regexp.MustCompile(`msg=leads .*identity=(\S+)`)

// identity is the name under which it leads; empty when it does not.
func (c *candidate) identity() string {
	if m := leads.FindStringSubmatch(c.log.text()); m != nil {
		return m[1]
	}
	return ""
}

// electorate is an API server with the rights that the chart gives a controller, and controllers that have them.
type electorate struct {
	t          *testing.T
	cluster    *lab.Cluster
	kubeconfig string // as the chart's service account
	pods       int
}

func newElectorate(t *testing.T) *electorate {
	t.Helper()
	c := lab.API(t, "1.36", "--disable-admission-plugins=ServiceAccount")
	c.Apply(t, "apiVersion: v1\nkind: Namespace\nmetadata: {name: shop}\n---\n"+fmt.Sprintf(reportKinds, "reports", "Namespaced", "report", "Report")+
		fmt.Sprintf(reportKinds, "clusterreports", "Cluster", "clusterreport", "ClusterReport"))
	code, manifests, errs := vigie(t, "install", "--set", "admission.enabled=true")
	if code != 0 {
		t.Fatal(errs)
	}
	var rights []string
	for _, document := range strings.Split(manifests, "---\n") {
		if strings.Contains(document, "\nkind: Namespace\n") || strings.Contains(document, "name: vigie-admit\n") && !strings.Contains(document, "kind: Deployment\n") {
			rights = append(rights, document)
		}
	}
	c.Apply(t, strings.Join(rights, "---\n"))
	if code, _, errs := vigie(t, "admit", "apply", "--control", "privileged", "--kubeconfig", c.Kubeconfig); code != 0 {
		t.Fatal(errs)
	}
	e := &electorate{t: t, cluster: c, kubeconfig: filepath.Join(t.TempDir(), "kubeconfig")}
	text, err := os.ReadFile(c.Kubeconfig)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(e.kubeconfig, text, 0o600); err != nil {
		t.Fatal(err)
	}
	token := e.kubectl("create", "token", "vigie-admit", "-n", "vigie-system")
	name := e.kubectl("config", "view", "-o", "jsonpath={.clusters[0].name}")
	for _, args := range [][]string{{"set-credentials", "admit", "--token=" + token}, {"set-context", "admit", "--cluster=" + name, "--user=admit"}, {"use-context", "admit"}} {
		if out, err := c.Kubectl(t.Context(), append([]string{"--kubeconfig", e.kubeconfig, "config"}, args...)...).CombinedOutput(); err != nil {
			t.Fatalf("kubectl config %v: %v: %s", args, err, out)
		}
	}
	return e
}

// kubectl is what it printed as the administrator.
func (e *electorate) kubectl(args ...string) string {
	e.t.Helper()
	out, err := e.cluster.Kubectl(e.t.Context(), args...).CombinedOutput()
	if err != nil {
		e.t.Fatalf("kubectl %v: %v: %s", args, err, out)
	}
	return strings.TrimSpace(string(out))
}

// start runs a controller as the chart does.
func (e *electorate) start() *candidate {
	ctx, stop := context.WithCancel(context.WithoutCancel(e.t.Context()))
	c := &candidate{stop: stop, ended: make(chan int, 1)}
	env := Env{In: &bytes.Buffer{}, Out: &c.log, Err: &c.log, Getenv: func(string) string { return "" }, Now: time.Now, Version: "1.2.3", Commit: "abc"}
	args := []string{"admit", "controller", "--leader-elect", "--lease-namespace=vigie-system", "--listen=", "--interval=200ms", "--kubeconfig", e.kubeconfig}
	done := make(chan struct{})
	go func() {
		defer close(done)
		c.ended <- Execute(ctx, env, New(env, NewAdmit(env)), args)
	}()
	e.t.Cleanup(func() {
		stop()
		<-done
		if e.t.Failed() {
			e.t.Logf("a controller said:\n%s", c.log.text())
		}
		if text := c.log.text(); strings.Contains(text, "forbidden") {
			e.t.Errorf("a right is missing in the chart:\n%s", text)
		}
	})
	return c
}

// until waits for what must come.
func (e *electorate) until(what string, is func() bool) {
	e.t.Helper()
	for end := time.Now().Add(time.Minute); !is(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			e.t.Fatalf("waited in vain: %s", what)
		}
	}
}

// leader waits until one of some leads whose name is the Lease's.
func (e *electorate) leader(of ...*candidate) *candidate {
	e.t.Helper()
	var found *candidate
	e.until("a leader", func() bool {
		holder := ""
		if out, err := e.cluster.Kubectl(e.t.Context(), "get", "lease", "vigie-admit", "-n", "vigie-system", "-o", "jsonpath={.spec.holderIdentity}").Output(); err == nil {
			holder = string(out)
		}
		for _, c := range of {
			if id := c.identity(); id != "" && id == holder {
				found = c
			}
		}
		return found != nil
	})
	return found
}

// reported makes a pod and waits for its report.
func (e *electorate) reported() {
	e.t.Helper()
	e.pods++
	name := fmt.Sprintf("web-%d", e.pods)
	e.cluster.Apply(e.t, fmt.Sprintf("apiVersion: v1\nkind: Pod\nmetadata: {name: %s, namespace: shop}\nspec: {containers: [{name: a, image: b, securityContext: {privileged: true}}]}\n", name))
	uid := e.kubectl("get", "pod", name, "-n", "shop", "-o", "jsonpath={.metadata.uid}")
	e.until("a report of "+name, func() bool {
		out, err := e.cluster.Kubectl(e.t.Context(), "get", "report", uid, "-n", "shop", "-o", "json").Output()
		return err == nil && strings.Contains(string(out), `"privileged"`) && strings.Contains(string(out), `"fail"`)
	})
}

// TestOneOfSeveralControllersLeads runs controllers with the chart's rights on a real API server. The one that leads is stopped, and then robbed of
// its Lease: another goes on each time, with the reports, and never two at once.
func TestOneOfSeveralControllersLeads(t *testing.T) {
	e := newElectorate(t)
	a, b := e.start(), e.start()
	first := e.leader(a, b)
	e.reported()
	second := a
	if first == a {
		second = b
	}
	if second.identity() != "" {
		t.Error("two controllers lead")
	}
	first.stop()
	if code := <-first.ended; code != 0 {
		t.Errorf("the leader that was stopped ended with %d", code)
	}
	e.leader(second)
	e.reported()

	third := e.start()
	e.kubectl("patch", "lease", "vigie-admit", "-n", "vigie-system", "--type=merge", "-p", `{"spec":{"holderIdentity":"another"}}`)
	if code := <-second.ended; code == 0 || !strings.Contains(second.log.text(), "the lease was lost") {
		t.Errorf("the leader that lost its lease ended with %d", code)
	}
	e.leader(third) // when the other, which is nobody, has said nothing for as long as the lease says
	e.reported()
	if got := e.kubectl("get", "lease", "vigie-admit", "-n", "vigie-system", "-o", "jsonpath={.spec.leaseTransitions}"); got != "2" {
		t.Errorf("the lease changed its holder %s times", got)
	}
}
