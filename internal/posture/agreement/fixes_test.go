// SPDX-License-Identifier: Apache-2.0

package agreement

import (
	"bytes"
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/vigie-io/vigie/internal/posture/admission"
	"github.com/vigie-io/vigie/internal/posture/control"
	"github.com/vigie-io/vigie/internal/posture/engine"
	"github.com/vigie-io/vigie/internal/posture/scan"
)

// made is what an API server makes of an example that is created.
type made struct {
	code int
	body string
}

// plain is an object without what differs each time that it is created.
func (m made) plain(t *testing.T) string {
	t.Helper()
	u := unstructured.Unstructured{}
	if err := json.Unmarshal([]byte(m.body), &u.Object); err != nil {
		t.Fatal(err)
	}
	uid := string(u.GetUID())
	for _, path := range [][]string{{"metadata", "uid"}, {"metadata", "creationTimestamp"}, {"metadata", "resourceVersion"}, {"metadata", "managedFields"}, {"spec", "clusterIP"}, {"spec", "clusterIPs"},
		{"spec", "healthCheckNodePort"}, {"status"}} {
		unstructured.RemoveNestedField(u.Object, path...)
	}
	if ports, ok, _ := unstructured.NestedSlice(u.Object, "spec", "ports"); ok {
		for _, p := range ports {
			if port, ok := p.(map[string]any); ok {
				delete(port, "nodePort")
			}
		}
		_ = unstructured.SetNestedSlice(u.Object, ports, "spec", "ports")
	}
	text, err := json.Marshal(u.Object)
	if err != nil {
		t.Fatal(err)
	}
	if uid != "" { // a job's selector has it
		text = bytes.ReplaceAll(text, []byte(uid), []byte("UID"))
	}
	return string(text)
}

// fixer compares what one API server makes of examples with and without fixes.
type fixer struct {
	*server
	judge *scan.Judge
}

func (f *fixer) create(e control.Example) made {
	f.t.Helper()
	r, err := f.judge.RequestOf(e)
	if err != nil {
		f.t.Fatal(err)
	}
	a := f.send(e, r)
	return made{a.code, a.body}
}

func (f *fixer) createAll(c *control.Control) []made {
	f.t.Helper()
	examples, err := c.Examples()
	if err != nil {
		f.t.Fatal(err)
	}
	var out []made
	for _, e := range examples {
		out = append(out, f.create(e))
	}
	return out
}

// failed are the controls that an object fails as it would be stored, of those that have a fix.
func (f *fixer) failed(e control.Example, m made) []string {
	f.t.Helper()
	e.Object = nil
	if err := json.Unmarshal([]byte(m.body), &e.Object); err != nil {
		f.t.Fatal(err)
	}
	r, err := f.judge.RequestOf(e)
	if err != nil {
		f.t.Fatal(err)
	}
	var out []string
	for _, v := range f.judge.Review(f.t.Context(), r) {
		if c := f.judge.Controls[v.Policy]; v.State != engine.Passed && admission.NotOnTheWayIn(c) == "" {
			out = append(out, c.ID)
		}
	}
	return out
}

func (f *fixer) apply(choices ...admission.FixChoice) {
	f.t.Helper()
	bundle, err := admission.Compile(admission.Plan{Fixes: choices})
	if err != nil {
		f.t.Fatal(err)
	}
	if _, err := f.rest.Apply(f.t.Context(), bundle, false); err != nil {
		f.t.Fatal(err)
	}
}

// TestFixesOnAnAPIServer gives a real API server each control's fix, one after the other, and has it create the control's examples: what
// would be stored of a bad one passes, and a good one is as without. Then all of them at once.
func TestFixesOnAnAPIServer(t *testing.T) {
	s := startServer(t, "1.36")
	s.namespaces("shop", "web", "b", "a")
	gateway := schema.GroupVersion{Group: "gateway.networking.k8s.io", Version: "v1"}
	s.definitions(map[string]schema.GroupVersionResource{"Gateway": gateway.WithResource("gateways"), "HTTPRoute": gateway.WithResource("httproutes"),
		"ReferenceGrant": gateway.WithResource("referencegrants")})
	controls, err := control.Default()
	if err != nil {
		t.Fatal(err)
	}
	j, err := scan.NewJudge(controls, engine.Version{Major: 1, Minor: 36}, nil)
	if err != nil {
		t.Fatal(err)
	}
	f := &fixer{server: s, judge: j}
	var all []admission.FixChoice
	without := map[string][]made{} // by control, before there is a fix
	for _, c := range controls {
		if admission.NotOnTheWayIn(c) == "" {
			all = append(all, admission.FixChoice{Control: c, Overrule: true})
			without[c.ID] = f.createAll(c)
		}
	}
	var refused []string
	mended, kept := 0, 0
	for _, choice := range all {
		c := choice.Control
		examples, err := c.Examples()
		if err != nil {
			t.Fatal(err)
		}
		without := without[c.ID]
		f.apply(choice)
		inForce := false
		for i, e := range examples {
			if without[i].code >= 300 {
				refused = append(refused, c.ID+": "+e.Name+": "+reason(without[i].body))
				continue
			}
			if e.Bad {
				m := f.create(e)
				good := func() bool {
					return m.code < 300 && !strings.Contains(" "+strings.Join(f.failed(e, m), " ")+" ", " "+c.ID+" ")
				}
				for end := time.Now().Add(30 * time.Second); !inForce && !good() && time.Now().Before(end); {
					m = f.create(e)
				}
				inForce = true
				mended++
				if !good() {
					t.Errorf("%s: %s: %d %s", c.ID, e.Name, m.code, m.body)
				}
			}
		}
		for i, e := range examples { // the fix is in force by now
			if !e.Bad && without[i].code < 300 {
				kept++
				if m := f.create(e); m.code >= 300 || m.plain(t) != without[i].plain(t) {
					t.Errorf("%s: %s was changed:\nwithout %s\nwith    %s", c.ID, e.Name, without[i].body, m.body)
				}
			}
		}
	}
	t.Logf("%d fixes, %d bad objects mended, %d good ones as they were; the API server refuses %d whatever the policies say:\n%s", len(all), mended, kept, len(refused), strings.Join(refused, "\n"))
	if len(all) < 55 || mended < 400 {
		t.Errorf("only %d fixes and %d objects", len(all), mended)
	}
	f.atOnce(all)
	f.afterOthers()
}

// atOnce has all fixes made of each control's examples. Some go together with no other, and say so.
func (f *fixer) atOnce(all []admission.FixChoice) {
	f.apply(all...)
	f.until("all fixes", http.MethodPost, shopPods+dry, pod("new", nil), http.StatusCreated, `"allowPrivilegeEscalation":false`)
	objects := 0
	for _, choice := range all {
		examples, err := choice.Control.Examples()
		if err != nil {
			f.t.Fatal(err)
		}
		for _, e := range examples {
			m := f.create(e)
			if m.code >= 300 {
				continue // see above
			}
			objects++
			if left := f.failed(e, m); len(left) > 0 {
				f.t.Errorf("%s: %s fails %q with all fixes: %s", choice.Control.ID, e.Name, left, m.body)
			}
		}
	}
	f.t.Logf("%d objects passed all fixes at once", objects)
}

// afterOthers sends pods as the API server's own plug-ins, which are off here, would have left them.
func (f *fixer) afterOthers() {
	p := pod("token", nil)
	spec := p["spec"].(map[string]any)                          //nolint:forcetypeassert // made by pod
	container := spec["containers"].([]any)[0].(map[string]any) //nolint:forcetypeassert // made by pod
	container["volumeMounts"] = []any{map[string]any{"name": "kube-api-access-x", "mountPath": "/var/run/secrets/kubernetes.io/serviceaccount", "readOnly": true}, map[string]any{"name": "tmp", "mountPath": "/tmp"}}
	spec["volumes"] = []any{map[string]any{"name": "tmp", "emptyDir": map[string]any{}}, map[string]any{"name": "kube-api-access-x", "projected": map[string]any{"sources": []any{
		map[string]any{"serviceAccountToken": map[string]any{"path": "token", "expirationSeconds": 3607}}}}}}
	spec["priorityClassName"], spec["priority"], spec["preemptionPolicy"] = "system-node-critical", 2000001000, "PreemptLowerPriority"
	a := f.do(http.MethodPost, shopPods+dry, p)
	if a.code != http.StatusCreated || strings.Contains(a.body, "kube-api-access") || !strings.Contains(a.body, `"name":"tmp"`) || strings.Contains(a.body, "2000001000") || strings.Contains(a.body, "system-node-critical") {
		f.t.Errorf("%d %s", a.code, a.body)
	}
}
