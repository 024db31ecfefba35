// SPDX-License-Identifier: Apache-2.0

package kube

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/protobuf/encoding/protowire"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/util/flowcontrol"

	"github.com/vigie-io/vigie/internal/pipeline"
)

// apiServer is as much of an API server as is asked for here: lists, watches that may begin with what there is, Jobs, and Events.
type apiServer struct {
	t       *testing.T
	address string
	server  *httptest.Server

	mu       sync.Mutex
	version  int
	objects  map[string]map[string]object // by resource, then namespace/name
	watchers map[*watcher]bool
	posted   []map[string]any // Events
	patched  []map[string]any
	refuse   bool // Events and reports
	asked    []string
	// noStreams: watches that begin with what there is are refused, as before Kubernetes 1.32.
	noStreams bool

	reportGroup string            // that there is
	reports     map[string][]byte // by name
}

type object struct {
	metav1.TypeMeta
	message []byte // protobuf
	json    []byte
	pod     *corev1.Pod
}

type watcher struct {
	resource, selector string
	events             chan []byte
}

func serveAPI(t *testing.T) *apiServer {
	s := &apiServer{t: t, objects: make(map[string]map[string]object), watchers: make(map[*watcher]bool), reports: make(map[string][]byte)}
	s.start()
	t.Cleanup(s.stop)
	return s
}

// start serves, at the same address as before.
func (s *apiServer) start() {
	s.t.Helper()
	listener, err := net.Listen("tcp", s.addressOr("127.0.0.1:0"))
	if err != nil {
		s.t.Fatal(err)
	}
	s.address = listener.Addr().String()
	s.server = &httptest.Server{Listener: listener, Config: &http.Server{Handler: s}}
	s.server.Start()
}

func (s *apiServer) addressOr(other string) string {
	if s.address != "" {
		return s.address
	}
	return other
}

// stop ends the server and all its connections.
func (s *apiServer) stop() {
	s.server.CloseClientConnections()
	s.server.Listener.Close()
	s.mu.Lock()
	for w := range s.watchers {
		close(w.events)
		delete(s.watchers, w)
	}
	s.mu.Unlock()
	s.server.Close()
}

func (s *apiServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	path := strings.Split(strings.Trim(r.URL.Path, "/"), "/")
	resource := path[len(path)-1]
	s.mu.Lock()
	s.asked = append(s.asked, r.Method+" "+r.URL.String())
	s.mu.Unlock()
	w.Header().Set("Content-Type", "application/json")
	switch {
	case len(path) > 1 && (path[1] == "openreports.io" || path[1] == "wgpolicyk8s.io"):
		s.report(w, r, path)
	case r.Method == http.MethodPost || r.Method == http.MethodPatch:
		s.post(w, r)
	case path[len(path)-2] == "jobs":
		s.mu.Lock()
		o, ok := s.objects["jobs"][path[len(path)-3]+"/"+resource]
		s.mu.Unlock()
		if !ok {
			w.WriteHeader(http.StatusNotFound)
			fmt.Fprint(w, `{"kind":"Status","apiVersion":"v1","status":"Failure","reason":"NotFound","code":404}`)
			return
		}
		_, _ = w.Write(o.json)
	case r.URL.Query().Get("watch") != "":
		s.watch(w, r, resource)
	default:
		s.list(w, r, resource)
	}
}

// report serves one kind of reports, reportGroup.
func (s *apiServer) report(w http.ResponseWriter, r *http.Request, path []string) {
	content, _ := io.ReadAll(r.Body)
	s.mu.Lock()
	defer s.mu.Unlock()
	name := path[len(path)-1]
	switch said := s.reports[name]; {
	case s.refuse:
		w.WriteHeader(http.StatusForbidden)
		fmt.Fprint(w, `{"kind":"Status","apiVersion":"v1","status":"Failure","reason":"Forbidden","code":403}`)
	case path[1] != s.reportGroup, r.Method == http.MethodGet && len(path) > 3 && said == nil:
		w.WriteHeader(http.StatusNotFound)
		fmt.Fprint(w, `{"kind":"Status","apiVersion":"v1","status":"Failure","reason":"NotFound","code":404}`)
	case len(path) == 3:
		fmt.Fprint(w, `{"kind":"APIResourceList","apiVersion":"v1"}`)
	case r.Method == http.MethodGet:
		_, _ = w.Write(said)
	default:
		if got := r.Header.Get("Content-Type"); got != "application/apply-patch+yaml" || r.URL.Query().Get("fieldManager") == "" {
			s.t.Errorf("a report comes as %s, %s", got, r.URL)
		}
		s.reports[name] = content
		_, _ = w.Write(content)
	}
}

func (s *apiServer) post(w http.ResponseWriter, r *http.Request) {
	content, _ := io.ReadAll(r.Body)
	var m map[string]any
	if err := json.Unmarshal(content, &m); err != nil {
		s.t.Errorf("an Event that is no JSON: %v: %q", err, content)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.refuse {
		w.WriteHeader(http.StatusForbidden)
		fmt.Fprint(w, `{"kind":"Status","apiVersion":"v1","status":"Failure","reason":"Forbidden","code":403}`)
		return
	}
	m["path"] = r.URL.Path
	if r.Method == http.MethodPost {
		s.posted = append(s.posted, m)
	} else {
		s.patched = append(s.patched, m)
	}
	fmt.Fprint(w, `{"kind":"Event","apiVersion":"events.k8s.io/v1","metadata":{"name":"x"}}`)
}

// kindOf is the kind of a resource's objects.
func kindOf(resource string) metav1.TypeMeta {
	t := metav1.TypeMeta{APIVersion: "v1", Kind: map[string]string{"pods": "Pod", "nodes": "Node", "namespaces": "Namespace", "services": "Service", "endpointslices": "EndpointSlice"}[resource]}
	if resource == "endpointslices" {
		t.APIVersion = "discovery.k8s.io/v1"
	}
	return t
}

func (s *apiServer) list(w http.ResponseWriter, r *http.Request, resource string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	about, err := (&metav1.ListMeta{ResourceVersion: fmt.Sprint(s.version)}).Marshal()
	if err != nil {
		s.t.Error(err)
	}
	list := inField(nil, 1, about)
	for _, o := range s.objects[resource] {
		if selected(r.URL.Query().Get("fieldSelector"), o) {
			list = inField(list, 2, o.message)
		}
	}
	kind := kindOf(resource)
	kind.Kind += "List"
	w.Header().Set("Content-Type", runtime.ContentTypeProtobuf)
	_, _ = w.Write(s.envelope(kind, list))
}

func inField(message []byte, number protowire.Number, content []byte) []byte {
	return protowire.AppendBytes(protowire.AppendTag(message, number, protowire.BytesType), content)
}

func (s *apiServer) watch(w http.ResponseWriter, r *http.Request, resource string) {
	initial := r.URL.Query().Get("sendInitialEvents") == "true"
	if initial && s.noStreams {
		w.WriteHeader(http.StatusUnprocessableEntity)
		fmt.Fprint(w, `{"kind":"Status","apiVersion":"v1","status":"Failure","reason":"Invalid","code":422}`)
		return
	}
	w.Header().Set("Content-Type", runtime.ContentTypeProtobuf+";stream=watch")
	me := &watcher{resource: resource, selector: r.URL.Query().Get("fieldSelector"), events: make(chan []byte, 4096)}
	s.mu.Lock()
	if initial {
		for _, o := range s.objects[resource] {
			if selected(me.selector, o) {
				me.events <- s.event("ADDED", o)
			}
		}
		end, err := (&metav1.ObjectMeta{ResourceVersion: fmt.Sprint(s.version), Annotations: map[string]string{metav1.InitialEventsAnnotationKey: "true"}}).Marshal()
		if err != nil {
			s.t.Error(err)
		}
		me.events <- s.event("BOOKMARK", object{TypeMeta: kindOf(resource), message: inField(nil, 1, end)})
	}
	s.watchers[me] = true
	s.mu.Unlock()
	flush := w.(http.Flusher)
	flush.Flush()
	for {
		select {
		case <-r.Context().Done():
			s.mu.Lock()
			delete(s.watchers, me)
			s.mu.Unlock()
			return
		case event, ok := <-me.events:
			if !ok {
				return
			}
			_, _ = w.Write(event)
			flush.Flush()
		}
	}
}

// event is one of a watch.
func (s *apiServer) event(kind string, o object) []byte {
	event, err := (&metav1.WatchEvent{Type: kind, Object: runtime.RawExtension{Raw: s.envelope(o.TypeMeta, o.message)}}).Marshal()
	if err != nil {
		s.t.Error(err)
	}
	return append(binary.BigEndian.AppendUint32(nil, uint32(len(event))), event...)
}

// envelope is an object as it is sent by itself.
func (s *apiServer) envelope(t metav1.TypeMeta, message []byte) []byte {
	whole, err := (&runtime.Unknown{TypeMeta: runtime.TypeMeta{APIVersion: t.APIVersion, Kind: t.Kind}, Raw: message}).Marshal()
	if err != nil {
		s.t.Error(err)
	}
	return append([]byte("k8s\x00"), whole...)
}

// selected knows the selectors that are used.
func selected(selector string, o object) bool {
	for part := range strings.SplitSeq(selector, ",") {
		field, want, negative := part, "", false
		if f, v, ok := strings.Cut(part, "!="); ok {
			field, want, negative = f, v, true
		} else if f, v, ok := strings.Cut(part, "="); ok {
			field, want = f, v
		}
		var is string
		switch field {
		case "spec.nodeName":
			is = o.pod.Spec.NodeName
		case "status.phase":
			is = string(o.pod.Status.Phase)
		default:
			continue
		}
		if (is == want) == negative {
			return false
		}
	}
	return true
}

// put makes or changes an object, and tells the watchers.
func (s *apiServer) put(resource string, o metav1.Object) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.version++
	o.SetResourceVersion(fmt.Sprint(s.version))
	next := object{TypeMeta: kindOf(resource)}
	var err error
	if m, ok := o.(interface{ Marshal() ([]byte, error) }); ok {
		next.message, err = m.Marshal()
	}
	if err == nil {
		next.json, err = json.Marshal(o)
	}
	if err != nil {
		s.t.Error(err)
	}
	if s.objects[resource] == nil {
		s.objects[resource] = make(map[string]object)
	}
	name := o.GetNamespace() + "/" + o.GetName()
	old, had := s.objects[resource][name]
	if p, ok := o.(*corev1.Pod); ok {
		next.pod = p.DeepCopy()
	}
	s.objects[resource][name] = next
	for w := range s.watchers {
		if w.resource != resource {
			continue
		}
		was, is := had && selected(w.selector, old), selected(w.selector, next)
		switch {
		case was && is:
			w.events <- s.event("MODIFIED", next)
		case is:
			w.events <- s.event("ADDED", next)
		case was:
			w.events <- s.event("DELETED", next)
		}
	}
}

func (s *apiServer) remove(resource, name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	o := s.objects[resource][name]
	delete(s.objects[resource], name)
	s.version++
	for w := range s.watchers {
		if w.resource == resource && selected(w.selector, o) {
			w.events <- s.event("DELETED", o)
		}
	}
}

// fakePod is a running pod with one container.
func fakePod(namespace, name, node, address string, change ...func(*corev1.Pod)) *corev1.Pod {
	p := &corev1.Pod{TypeMeta: metav1.TypeMeta{Kind: "Pod", APIVersion: "v1"},
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name, UID: types.UID("uid-of-" + name), Labels: map[string]string{"app": "web"},
			ManagedFields: []metav1.ManagedFieldsEntry{{Manager: "kubelet"}}},
		Spec:   corev1.PodSpec{NodeName: node, ServiceAccountName: "default", Containers: []corev1.Container{{Name: "main", Image: "web:1"}}},
		Status: corev1.PodStatus{Phase: corev1.PodRunning}}
	if address != "" {
		p.Status.PodIP, p.Status.PodIPs = address, []corev1.PodIP{{IP: address}}
	}
	for _, c := range change {
		c(p)
	}
	return p
}

func fakeService(namespace, name, address string, port int32) *corev1.Service {
	return &corev1.Service{TypeMeta: metav1.TypeMeta{Kind: "Service", APIVersion: "v1"}, ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name},
		Spec: corev1.ServiceSpec{ClusterIP: address, ClusterIPs: []string{address}, Ports: []corev1.ServicePort{{Name: "http", Port: port, NodePort: 30080, Protocol: corev1.ProtocolTCP}}}}
}

func fakeSlice(namespace, service, name string, ready bool, port int32, addresses ...string) *discoveryv1.EndpointSlice {
	portName := "http"
	return &discoveryv1.EndpointSlice{TypeMeta: metav1.TypeMeta{Kind: "EndpointSlice", APIVersion: "discovery.k8s.io/v1"},
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name, Labels: map[string]string{discoveryv1.LabelServiceName: service}},
		Ports:      []discoveryv1.EndpointPort{{Name: &portName, Port: &port}},
		Endpoints:  []discoveryv1.Endpoint{{Addresses: addresses, Conditions: discoveryv1.EndpointConditions{Ready: &ready}}}}
}

// follow runs a Client for node "here" until the test ends, or until what it returns is called.
func (s *apiServer) follow(stateDir string) (c *Client, stop func()) {
	s.t.Helper()
	c = s.client(stateDir)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); c.Run(ctx) }()
	stop = sync.OnceFunc(func() { cancel(); <-done })
	s.t.Cleanup(stop)
	return c, stop
}

func (s *apiServer) client(stateDir string) *Client {
	s.t.Helper()
	config := &rest.Config{Host: "http://" + s.address, RateLimiter: flowcontrol.NewFakeAlwaysRateLimiter()}
	config.AcceptContentTypes = runtime.ContentTypeProtobuf
	c, err := open(Options{Node: "here", StateDir: stateDir, Log: slog.New(slog.DiscardHandler), Losses: new(pipeline.Losses), Now: time.Now}, config)
	if err != nil {
		s.t.Fatal(err)
	}
	return c
}

func waitFor(t *testing.T, what string, done func() bool) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !done(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain for %s", what)
		}
	}
}

func waitSynced(t *testing.T, c *Client) {
	t.Helper()
	select {
	case <-c.View().Synced():
	case <-time.After(30 * time.Second):
		t.Fatalf("not synced: %+v", c.Status())
	}
}
