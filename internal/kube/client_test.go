// SPDX-License-Identifier: Apache-2.0

package kube

import (
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/vigie-io/vigie/internal/model"
)

// TestFollow: what the API server has, and what changes there, is in the View.
func TestFollow(t *testing.T) {
	s := serveAPI(t)
	s.put("namespaces", &corev1.Namespace{TypeMeta: metav1.TypeMeta{Kind: "Namespace", APIVersion: "v1"}, ObjectMeta: metav1.ObjectMeta{Name: "shop", Labels: map[string]string{"team": "a"}}})
	s.put("nodes", &corev1.Node{TypeMeta: metav1.TypeMeta{Kind: "Node", APIVersion: "v1"}, ObjectMeta: metav1.ObjectMeta{Name: "here"},
		Spec:   corev1.NodeSpec{PodCIDRs: []string{"10.1.0.0/24"}},
		Status: corev1.NodeStatus{Addresses: []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: "192.0.2.1"}, {Type: corev1.NodeHostName, Address: "here"}}}})
	s.put("pods", fakePod("shop", "web", "here", "10.1.0.2", func(p *corev1.Pod) {
		always := corev1.ContainerRestartPolicyAlways
		p.Spec.InitContainers = []corev1.Container{{Name: "migrate", Image: "db:1"}, {Name: "proxy", Image: "proxy:1", RestartPolicy: &always}}
		p.Spec.Containers[0].Ports = []corev1.ContainerPort{{Name: "http", ContainerPort: 8080}, {ContainerPort: 9}}
		p.Status.ContainerStatuses = []corev1.ContainerStatus{{Name: "main", ContainerID: "containerd://abc"}}
		p.Labels["pod-template-hash"] = "5d4f"
		controlledBy(p, "ReplicaSet", "web-5d4f", "rs")
	}))
	s.put("pods", fakePod("shop", "db", "there", "10.2.0.2"))
	s.put("pods", fakePod("shop", "done", "there", "10.2.0.3", func(p *corev1.Pod) { p.Status.Phase = corev1.PodSucceeded }))
	s.put("pods", fakePod("shop", "waiting", "", ""))
	s.put("services", fakeService("shop", "web", "10.96.0.10", 80))
	s.put("endpointslices", fakeSlice("shop", "web", "web-1", true, 8080, "10.1.0.2"))
	s.put("endpointslices", fakeSlice("shop", "web", "web-2", false, 8080, "10.1.0.9"))
	c, _ := s.follow("")
	waitSynced(t, c)
	v := c.View()

	web := v.PodByUID("uid-of-web")
	if web == nil {
		t.Fatal("the pod of this node is not known")
	}
	if web.Namespace != "shop" || web.Name != "web" || web.Controller != (model.Controller{Kind: "Deployment", Name: "web"}) ||
		web.ServiceAccount != "default" || web.Node != "here" || web.Labels["app"] != "web" || web.Ended {
		t.Errorf("web: %+v", web)
	}
	if want := []model.PodPort{{Name: "http", Port: 8080, Protocol: unix.IPPROTO_TCP}}; !slices.Equal(web.Ports, want) {
		t.Errorf("ports %v, want %v", web.Ports, want)
	}
	if want := []model.PodContainer{{Name: "migrate", Role: model.InitContainer, Image: "db:1"}, {Name: "proxy", Role: model.SidecarContainer, Image: "proxy:1"},
		{Name: "main", Role: model.AppContainer, Image: "web:1", ID: "abc"}}; !slices.Equal(web.Containers, want) {
		t.Errorf("containers %v, want %v", web.Containers, want)
	}
	if p := v.PodByAddress(netip.MustParseAddr("::ffff:10.2.0.2")); p == nil || p.Name != "db" || p.Containers != nil {
		t.Errorf("db: %+v", p)
	}
	if v.PodByUID("uid-of-done") != nil || v.PodByUID("uid-of-waiting") != nil {
		t.Error("pods that run nowhere are followed")
	}
	if n := v.Namespace("shop"); n == nil || n.Labels["team"] != "a" {
		t.Errorf("namespace: %+v", n)
	}
	if n := v.ClusterNode("here"); n == nil || len(n.Addresses) != 1 || n.PodCIDRs[0] != netip.MustParsePrefix("10.1.0.0/24") {
		t.Errorf("node: %+v", n)
	}
	for at, want := range map[string]string{"10.96.0.10:80": "web", "10.96.0.10:81": "", "192.0.2.1:30080": "web", "192.0.2.2:30080": ""} {
		name := ""
		if found := v.ServiceByAddress(netip.MustParseAddrPort(at), unix.IPPROTO_TCP); found != nil {
			name = found.Name
			if ends := found.Ports[0].Endpoints; !slices.Equal(ends, []netip.AddrPort{netip.MustParseAddrPort("10.1.0.2:8080")}) {
				t.Errorf("endpoints of %s: %v", at, ends)
			}
		}
		if name != want {
			t.Errorf("the service at %s is %q, want %q", at, name, want)
		}
	}
	if v.ServiceByAddress(netip.MustParseAddrPort("10.96.0.10:80"), unix.IPPROTO_UDP) != nil {
		t.Error("a service of TCP answers for UDP")
	}

	// Things change.
	changes := v.Subscribe()
	defer changes.Close()
	<-changes.Changed()
	if first := changes.Take(); !first.All {
		t.Errorf("the first changes: %+v", first)
	}
	s.put("pods", fakePod("shop", "web", "here", "10.1.0.2", func(p *corev1.Pod) { p.Labels["app"] = "shop" }))
	waitFor(t, "a label to change", func() bool { return v.PodByUID("uid-of-web").Labels["app"] == "shop" })
	<-changes.Changed()
	if got := changes.Take().Pods["uid-of-web"]; got.Old != web || got.New != v.PodByUID("uid-of-web") {
		t.Errorf("the change of a label: %+v", got)
	}
	s.remove("services", "shop/web")
	s.remove("pods", "shop/web")
	waitFor(t, "the pod to go", func() bool { return v.PodByUID("uid-of-web") == nil })
	waitFor(t, "the service to go", func() bool {
		return v.ServiceByAddress(netip.MustParseAddrPort("10.96.0.10:80"), unix.IPPROTO_TCP) == nil
	})
	if p := v.PodByAddress(netip.MustParseAddr("10.1.0.2")); p != nil {
		t.Errorf("%s has an address after its end", p.Name)
	}
	status := c.Status()
	if !status.Synced || status.Away != nil || status.Watches != 6 || status.BytesReceived == 0 || len(status.Problems(time.Now())) > 0 {
		t.Errorf("status: %+v", status)
	}
}

func controlledBy(p *corev1.Pod, kind, name, uid string) {
	yes := true
	p.OwnerReferences = append(p.OwnerReferences, metav1.OwnerReference{Kind: kind, Name: name, UID: types.UID(uid), Controller: &yes})
}

// TestJobs: a pod of a Job belongs to the CronJob that made the Job, which the Job alone says.
func TestJobs(t *testing.T) {
	s := serveAPI(t)
	yes := true
	s.put("jobs", &metav1.PartialObjectMetadata{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "clean-28900000", UID: "job-1",
		OwnerReferences: []metav1.OwnerReference{{Kind: "CronJob", Name: "clean", UID: "cron", Controller: &yes}}}})
	s.put("pods", fakePod("shop", "clean-28900000-x", "here", "", func(p *corev1.Pod) { controlledBy(p, "Job", "clean-28900000", "job-1") }))
	s.put("pods", fakePod("shop", "import-x", "here", "", func(p *corev1.Pod) { controlledBy(p, "Job", "import", "job-2") }))
	c, _ := s.follow("")
	waitSynced(t, c)
	for uid, want := range map[string]model.Controller{"uid-of-clean-28900000-x": {Kind: "CronJob", Name: "clean"}, "uid-of-import-x": {Kind: "Job", Name: "import"}} {
		waitFor(t, uid+" to belong to "+want.Name, func() bool { p := c.View().PodByUID(uid); return p != nil && p.Controller == want })
	}
	s.put("pods", fakePod("shop", "clean-28900000-y", "here", "", func(p *corev1.Pod) { controlledBy(p, "Job", "clean-28900000", "job-1") }))
	waitFor(t, "the second pod", func() bool { return c.View().PodByUID("uid-of-clean-28900000-y") != nil })
	if got := c.View().PodByUID("uid-of-clean-28900000-y").Controller; got.Kind != "CronJob" {
		t.Errorf("a second pod of the Job is of %+v", got)
	}
}

// TestManyJobs: the owners of Jobs that are gone are forgotten when there are many; those of the others stay.
func TestManyJobs(t *testing.T) {
	v := newView("here", time.Now)
	clean := model.Controller{Kind: "CronJob", Name: "clean"}
	v.setPod(&model.Pod{UID: "p", Namespace: "shop", Controller: model.Controller{Kind: "Job", Name: "clean-1"}}, "job-of-p")
	if jobs := v.jobsWithoutOwner(10); len(jobs) != 1 || jobs[0] != (jobName{"shop", "clean-1", "job-of-p"}) {
		t.Errorf("to be asked for: %v", jobs)
	}
	v.setOwner("job-of-p", clean)
	for i := range 2 * maxOwners {
		v.setOwner(fmt.Sprint("gone-", i), clean)
	}
	if len(v.owners) > maxOwners || v.owners["job-of-p"] != clean || len(v.jobsWithoutOwner(10)) != 0 {
		t.Errorf("%d owners are remembered, %v", len(v.owners), v.owners["job-of-p"])
	}
}

// TestAway: an agent that starts while the API server is away knows what the one before knew, and says so; what has changed
// meanwhile is put right when it comes back.
func TestAway(t *testing.T) {
	s := serveAPI(t)
	dir := t.TempDir()
	s.put("namespaces", &corev1.Namespace{TypeMeta: metav1.TypeMeta{Kind: "Namespace", APIVersion: "v1"}, ObjectMeta: metav1.ObjectMeta{Name: "old"}})
	s.put("pods", fakePod("shop", "web", "here", "10.1.0.2"))
	s.put("pods", fakePod("shop", "db", "there", "10.2.0.2"))
	s.put("services", fakeService("shop", "web", "10.96.0.10", 80))
	s.put("endpointslices", fakeSlice("shop", "web", "web-1", true, 8080, "10.1.0.2"))
	first, stop := s.follow(dir)
	waitSynced(t, first)
	s.stop()
	waitFor(t, "the API server to be missed", func() bool { return first.Status().Away != nil })
	if first.View().PodByUID("uid-of-web") == nil {
		t.Error("a pod is forgotten because the API server is away")
	}
	stop()
	if info, err := os.Stat(filepath.Join(dir, "kube.json.zst")); err != nil || info.Mode().Perm() != 0o600 {
		t.Fatalf("what is known is not kept for its owner alone: %v, %v", info, err)
	}

	second, _ := s.follow(dir)
	v := second.View()
	if p := v.PodByUID("uid-of-web"); p == nil || p.Name != "web" || p.Labels["app"] != "web" || len(p.Containers) != 1 {
		t.Errorf("web after a restart: %+v", p)
	}
	if p := v.PodByAddress(netip.MustParseAddr("10.2.0.2")); p == nil || p.Name != "db" {
		t.Errorf("db after a restart: %+v", p)
	}
	if found := v.ServiceByAddress(netip.MustParseAddrPort("10.96.0.10:80"), unix.IPPROTO_TCP); found == nil || len(found.Ports[0].Endpoints) != 1 {
		t.Errorf("service after a restart: %+v", found)
	}
	waitFor(t, "the problem to be told", func() bool {
		status := second.Status()
		return len(status.Problems(time.Now())) == 1
	})
	status := second.Status()
	if text := status.Problems(time.Now())[0]; status.Synced || !strings.Contains(text, "from the state of") {
		t.Errorf("told: %q", text)
	}

	s.mu.Lock()
	delete(s.objects["pods"], "shop/db")
	delete(s.objects["namespaces"], "/old")
	s.mu.Unlock()
	s.put("endpointslices", fakeSlice("shop", "web", "web-1", true, 8080, "10.1.0.3"))
	s.start()
	waitSynced(t, second)
	if v.PodByUID("uid-of-db") != nil || v.PodByAddress(netip.MustParseAddr("10.2.0.2")) != nil || v.Namespace("old") != nil {
		t.Error("what went while nobody looked is still known")
	}
	found := v.ServiceByAddress(netip.MustParseAddrPort("10.96.0.10:80"), unix.IPPROTO_TCP)
	if want := []netip.AddrPort{netip.MustParseAddrPort("10.1.0.3:8080")}; found == nil || !slices.Equal(found.Ports[0].Endpoints, want) {
		t.Errorf("endpoints after the return: %+v", found)
	}
}

// TestOtherState: what is known of another cluster or node, or is no state at all, is not believed.
func TestOtherState(t *testing.T) {
	s := serveAPI(t)
	s.put("pods", fakePod("shop", "web", "here", "10.1.0.2"))
	dir := t.TempDir()
	c, stop := s.follow(dir)
	waitSynced(t, c)
	stop()
	path := filepath.Join(dir, "kube.json.zst")
	for _, other := range [][2]string{{"https://elsewhere", "here"}, {c.config.Host, "there"}} {
		if st, err := load(path, other[0], other[1]); st != nil || err != nil {
			t.Errorf("%v: %+v, %v", other, st, err)
		}
	}
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, whole[:len(whole)/2], 0o600); err != nil {
		t.Fatal(err)
	}
	if st, err := load(path, c.config.Host, "here"); st != nil || err == nil {
		t.Errorf("half a state: %+v, %v", st, err)
	}
	if c := s.client(dir); c.View().PodByUID("uid-of-web") != nil {
		t.Error("a broken state is believed")
	}
}

func TestRestConfig(t *testing.T) {
	t.Setenv("KUBERNETES_SERVICE_HOST", "")
	for _, choice := range []string{Off, Auto, ""} {
		if _, err := RestConfig(choice, "1"); !errors.Is(err, ErrNotConfigured) {
			t.Errorf("%q: %v", choice, err)
		}
	}
	if _, err := RestConfig(filepath.Join(t.TempDir(), "none"), "1"); err == nil {
		t.Error("a missing kubeconfig is no error")
	}
	path := filepath.Join(t.TempDir(), "config")
	config := `{"apiVersion":"v1","kind":"Config","clusters":[{"name":"c","cluster":{"server":"https://192.0.2.1:6443"}}],"contexts":[{"name":"x","context":{"cluster":"c","user":""}}],"current-context":"x"}`
	if err := os.WriteFile(path, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	if got, err := RestConfig(path, "1"); err != nil || got.Host != "https://192.0.2.1:6443" || got.UserAgent != "vigie/1" {
		t.Errorf("%+v, %v", got, err)
	}
}

// TestQuietLog: what client-go says is for those who ask for it.
func TestQuietLog(t *testing.T) {
	for level, want := range map[slog.Level]bool{slog.LevelInfo: false, slog.LevelDebug: true} {
		var out strings.Builder
		quiet := logr.FromSlogHandler(curious{slog.NewTextHandler(&out, &slog.HandlerOptions{Level: level})}).WithName("x").WithValues("a", "b")
		quiet.Error(errors.New("no"), "failed to watch")
		quiet.Info("watching")
		if got := out.String(); (got != "") != want || strings.Contains(got, "level=ERROR") || strings.Contains(got, "level=INFO") {
			t.Errorf("at level %v: %q", level, got)
		}
	}
}
