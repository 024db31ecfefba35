// SPDX-License-Identifier: Apache-2.0

package agreement

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/vigie-io/vigie/internal/posture/admission"
	"github.com/vigie-io/vigie/internal/posture/cluster"
	"github.com/vigie-io/vigie/internal/testkit/lab"
)

// server is a real API server whose audit log can be read.
type server struct {
	t      *testing.T
	client *http.Client
	url    string
	log    *os.File
	line   bytes.Buffer
	rest   *cluster.Client
	n      int
}

const auditPolicy = "apiVersion: audit.k8s.io/v1\nkind: Policy\nomitStages: [RequestReceived]\nrules: [{level: Metadata}]\n"

// startServer starts one of a minor version. Its own plug-ins that change or refuse what is valid are off: a scan looks at
// manifests as they are written.
func startServer(t *testing.T, minor string, args ...string) *server {
	t.Helper()
	dir := t.TempDir()
	policy, log := filepath.Join(dir, "policy.yaml"), filepath.Join(dir, "audit.log")
	for name, text := range map[string]string{policy: auditPolicy, log: ""} {
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	api := lab.API(t, minor, append([]string{"--audit-policy-file=" + policy, "--audit-log-path=" + log, "--audit-log-mode=blocking",
		"--disable-admission-plugins=ServiceAccount,Priority,DefaultTolerationSeconds,DefaultIngressClass,DefaultStorageClass,RuntimeClass,TaintNodesByCondition,StorageObjectInUseProtection"}, args...)...)
	config, err := clientcmd.BuildConfigFromFlags("", api.Kubeconfig)
	if err != nil {
		t.Fatal(err)
	}
	config.QPS = -1
	s := &server{t: t, url: strings.TrimSuffix(config.Host, "/")}
	if s.client, err = rest.HTTPClientFor(config); err != nil {
		t.Fatal(err)
	}
	if s.rest, err = cluster.NewClient(config, minor); err != nil {
		t.Fatal(err)
	}
	if s.log, err = os.Open(log); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.log.Close() })
	return s
}

// answer is what the API server said, and what it wrote of it.
type answer struct {
	code     int
	body     string
	warnings []string
	messages map[string][]string // control → messages, of the warnings; when they are more than 4 KiB not all of them
	failed   []string            // controls, of the audit log
	audit    map[string]string
}

// do sends a request and finds it in the audit log.
func (s *server) do(method, path string, object any) answer {
	s.t.Helper()
	text, err := json.Marshal(object)
	if err != nil {
		s.t.Fatal(err)
	}
	req, err := http.NewRequestWithContext(s.t.Context(), method, s.url+path, bytes.NewReader(text))
	if err != nil {
		s.t.Fatal(err)
	}
	s.n++
	id := fmt.Sprintf("vigie-%d", s.n)
	req.Header.Set("Content-Type", "application/json")
	if method == http.MethodPatch {
		req.Header.Set("Content-Type", "application/merge-patch+json")
	}
	req.Header.Set("Audit-ID", id)
	resp, err := s.client.Do(req)
	if err != nil {
		s.t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	a := answer{code: resp.StatusCode, body: string(body), warnings: resp.Header.Values("Warning")}
	a.audit = s.auditOf(id)
	a.failed = failedIn(a.audit)
	a.messages = messagesIn(a.warnings)
	return a
}

// auditOf reads the log until a request is in it: the server writes it before it answers.
func (s *server) auditOf(id string) map[string]string {
	s.t.Helper()
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); {
		if _, err := io.Copy(&s.line, s.log); err != nil {
			s.t.Fatal(err)
		}
		for {
			line, err := s.line.ReadString('\n')
			if err != nil { // half a line
				s.line.WriteString(line)
				break
			}
			var event struct {
				AuditID     string            `json:"auditID"`
				Annotations map[string]string `json:"annotations"`
			}
			if err := json.Unmarshal([]byte(line), &event); err != nil {
				s.t.Fatal(err)
			}
			if event.AuditID == id {
				return event.Annotations
			}
		}
	}
	s.t.Fatalf("request %s is not in the audit log", id)
	return nil
}

// failedIn are the controls that vigie's policies wrote into the audit log.
func failedIn(annotations map[string]string) []string {
	out := []string{}
	for key, value := range annotations {
		if strings.HasPrefix(key, "vigie-") && strings.HasSuffix(key, "/"+admission.FailedAnnotation) {
			out = append(out, strings.Split(value, ", ")...)
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// messagesIn takes warnings apart: the message of each begins with its control.
func messagesIn(warnings []string) map[string][]string {
	out := map[string][]string{}
	for _, w := range warnings {
		_, quoted, _ := strings.Cut(w, "299 - ")
		text, err := strconv.Unquote(quoted)
		if err != nil {
			text = strings.NewReplacer(`\"`, `"`, `\\`, `\`).Replace(strings.Trim(quoted, `"`))
		}
		_, text, ok := strings.Cut(text, "with binding 'vigie-")
		if !ok {
			continue // of something else
		}
		_, text, _ = strings.Cut(text, "': ")
		id, message, _ := strings.Cut(text, ": ")
		out[id] = append(out[id], message)
	}
	return out
}

// collection is the path of a resource, with ? and what every request has.
func collection(r schema.GroupVersionResource, namespace string) string {
	path := cluster.Path(r, namespace, "")
	return strings.TrimSuffix(path, "/")
}

// namespaces are made for the examples.
func (s *server) namespaces(names ...string) {
	s.t.Helper()
	for _, name := range names {
		a := s.do("POST", "/api/v1/namespaces", map[string]any{"apiVersion": "v1", "kind": "Namespace", "metadata": map[string]any{"name": name}})
		if a.code >= 300 && a.code != http.StatusConflict {
			s.t.Fatalf("make namespace %s: %d %s", name, a.code, a.body)
		}
	}
}

// definitions are made for kinds that an API server does not have by itself: any fields are taken.
func (s *server) definitions(kinds map[string]schema.GroupVersionResource) {
	s.t.Helper()
	for kind, r := range kinds {
		anything := map[string]any{"type": "object", "x-kubernetes-preserve-unknown-fields": true}
		a := s.do("POST", "/apis/apiextensions.k8s.io/v1/customresourcedefinitions", map[string]any{"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
			"metadata": map[string]any{"name": r.Resource + "." + r.Group, "annotations": map[string]any{"api-approved.kubernetes.io": "unapproved, for a test"}},
			"spec": map[string]any{"group": r.Group, "scope": "Namespaced", "names": map[string]any{"plural": r.Resource, "singular": strings.ToLower(kind), "kind": kind},
				"versions": []any{map[string]any{"name": r.Version, "served": true, "storage": true, "schema": map[string]any{"openAPIV3Schema": anything}}}}})
		if a.code >= 300 {
			s.t.Fatalf("define %s: %d %s", kind, a.code, a.body)
		}
		for end := time.Now().Add(30 * time.Second); ; {
			if ok, err := s.rest.Serves(r); err == nil && ok {
				break
			}
			if time.Now().After(end) {
				s.t.Fatalf("%s is not served", kind)
			}
		}
	}
}
