// SPDX-License-Identifier: Apache-2.0

package agreement

import (
	"encoding/json"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/vigie-io/vigie/internal/posture/admission"
	"github.com/vigie-io/vigie/internal/posture/control"
	"github.com/vigie-io/vigie/internal/posture/engine"
	"github.com/vigie-io/vigie/internal/posture/scan"
)

// TestScanAndAPIServerAgree gives a real API server the bundle of all controls, sends it every control's good and bad objects, and
// requires what the scanner says of them, word by word.
func TestScanAndAPIServerAgree(t *testing.T) {
	for _, minor := range []string{"1.36", "1.35"} {
		t.Run(minor, func(t *testing.T) { agreeWith(t, minor) })
	}
}

func agreeWith(t *testing.T, minor string) {
	s := startServer(t, minor)
	s.namespaces("shop", "web", "b", "a")
	gateway := schema.GroupVersion{Group: "gateway.networking.k8s.io", Version: "v1"}
	s.definitions(map[string]schema.GroupVersionResource{"Gateway": gateway.WithResource("gateways"), "HTTPRoute": gateway.WithResource("httproutes"),
		"ReferenceGrant": gateway.WithResource("referencegrants")})
	major, number, err := s.rest.Version()
	if err != nil {
		t.Fatal(err)
	}
	controls, err := control.Default()
	if err != nil {
		t.Fatal(err)
	}
	target := engine.Version{Major: major, Minor: number}
	j, err := scan.NewJudge(controls, target, nil)
	if err != nil {
		t.Fatal(err)
	}
	bundle, err := admission.Compile(admission.Plan{Controls: controls, Step: admission.Warn, Target: target})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.rest.Apply(t.Context(), bundle, false); err != nil {
		t.Fatal(err)
	}
	left := map[string]bool{}
	for _, l := range bundle.Left {
		left[l.Control] = true
	}
	compared, failures, refused := 0, 0, map[string]int{}
	deadline := time.Now().Add(time.Minute) // until then a policy may not be in force yet
	for _, c := range controls {
		examples, err := c.Examples()
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range examples {
			r, err := j.RequestOf(e)
			if err != nil {
				t.Fatal(err)
			}
			if r.Object.Served != r.Object.Kind {
				continue // a version that no API server serves any more
			}
			want := map[string][]string{}
			for id, messages := range byEngine(t, j, r) {
				if !left[id] {
					want[id] = messages
				}
			}
			a := s.send(e, r)
			for !agrees(want, a) && a.code < 300 && time.Now().Before(deadline) {
				a = s.send(e, r)
			}
			if a.code >= 300 {
				refused[c.ID+": "+e.Name+": "+reason(a.body)]++
				continue
			}
			compared, failures = compared+1, failures+len(want)
			if !agrees(want, a) {
				t.Errorf("%s: %s:\nAPI server %v %v\nscan       %v", c.ID, e.Name, a.failed, a.messages, want)
			}
		}
	}
	t.Logf("%d objects, %d failures; %d objects are refused by the API server whatever the policies say", compared, failures, len(refused))
	for _, why := range slices.Sorted(maps.Keys(refused)) {
		t.Log(why)
	}
	if compared < 1000 || failures < 5000 {
		t.Errorf("only %d objects with %d failures were compared", compared, failures)
	}
}

// agrees requires the same controls, and the same messages as far as the API server gives them: warnings of one request are cut
// at 256 characters each once they are 4 KiB together, and then left out.
func agrees(want map[string][]string, a answer) bool {
	if !slices.Equal(slices.Sorted(maps.Keys(want)), a.failed) {
		return false
	}
	size := 0
	for _, w := range a.warnings {
		size += len(w)
	}
	for id, messages := range want {
		got := a.messages[id]
		if size > 3500 && (len(got) < len(messages) || !slices.Equal(got, messages)) {
			for i, m := range got {
				if !strings.HasPrefix(messages[i], m) {
					return false
				}
			}
			continue
		}
		if !slices.Equal(got, messages) {
			return false
		}
	}
	return true
}

func reason(body string) string {
	var status struct{ Message string }
	if err := json.Unmarshal([]byte(body), &status); err != nil {
		return body
	}
	return status.Message
}

// send creates an example without keeping it; one for ephemeralcontainers is kept without them first.
func (s *server) send(e control.Example, r engine.Request) answer {
	s.t.Helper()
	fields := runtime.DeepCopyJSON(e.Object)
	if m, ok := fields["metadata"].(map[string]any); ok && m["name"] == nil && m["generateName"] == nil {
		m["name"] = "example"
	}
	path := collection(r.Object.Resource, r.Object.Namespace)
	if !e.Ephemeral {
		return s.do(http.MethodPost, path+"?dryRun=All", fields)
	}
	spec, _ := fields["spec"].(map[string]any)
	ephemeral := spec["ephemeralContainers"]
	delete(spec, "ephemeralContainers")
	if a := s.do(http.MethodPost, path, fields); a.code >= 300 {
		return a
	}
	pod := path + "/" + r.Object.Name
	a := s.do(http.MethodPatch, pod+"/ephemeralcontainers?dryRun=All", map[string]any{"spec": map[string]any{"ephemeralContainers": ephemeral}})
	if gone := s.do(http.MethodDelete, pod+"?gracePeriodSeconds=0", map[string]any{}); gone.code >= 300 && !strings.Contains(gone.body, "not found") {
		s.t.Fatalf("delete %s: %s", pod, gone.body)
	}
	return a
}
