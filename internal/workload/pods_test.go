// SPDX-License-Identifier: Apache-2.0

package workload

import (
	"reflect"
	"testing"
	"testing/synctest"
	"time"

	"github.com/vigie-io/vigie/internal/model"
	"github.com/vigie-io/vigie/internal/workload/cri"
)

const podPath = "/kubepods/burstable/pod" + pod

func shopPod() *model.Pod {
	return &model.Pod{UID: pod, Namespace: "shop", Name: "web-0", Labels: map[string]string{"app": "web"}, Controller: model.Controller{Kind: "StatefulSet", Name: "web"},
		ServiceAccount: "web", Node: "here", Containers: []model.PodContainer{{Name: "nginx", Role: model.AppContainer, Image: "nginx:1"}}}
}

// TestPodAtOnce: a container has its name in the moment in which its cgroup is made: its pod's from Kubernetes, its own from what the
// runtime told when the container was made.
func TestPodAtOnce(t *testing.T) {
	pods := new(fakePods)
	pods.set(pod, shopPod())
	r := New(Config{Cgroups: newCgroups(nil), Runtimes: new(fakeRuntimes), Pods: pods, PodNames: fakeNames{}})
	r.container(idWeb, cri.Info{Runtime: "containerd", Name: "nginx", Container: "nginx", Image: "nginx:1", PodName: "web-0", Namespace: "shop", PodUID: pod,
		Labels: map[string]string{"app": "old", "gone": "x", "io.kubernetes.container.name": "nginx"}})
	r.CgroupCreated(0, 5, podPath+"/"+idWeb)
	want := &model.Workload{Kind: model.WorkloadPod, Name: "web-0", Namespace: "shop", ID: idWeb, Runtime: "containerd", Image: "nginx:1", Container: "nginx", PodUID: pod,
		Controller: model.Controller{Kind: "StatefulSet", Name: "web"}, ServiceAccount: "web", Node: "here", Cgroup: podPath + "/" + idWeb,
		Labels: map[string]string{"app": "web", "io.kubernetes.container.name": "nginx"}}
	if got := r.Lookup(0, 5); !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
	// The pod's own cgroup, which no runtime knows.
	r.CgroupCreated(0, 6, podPath)
	if got := r.Lookup(0, 6); got.Name != "web-0" || got.Namespace != "shop" || got.Labels["app"] != "web" {
		t.Errorf("the pod's cgroup: %+v", got)
	}
}

// TestPodWithoutKubernetes: kubelet's directory has a pod's name when nobody else has.
func TestPodWithoutKubernetes(t *testing.T) {
	pods := new(fakePods)
	r := New(Config{Cgroups: newCgroups(nil), Runtimes: new(fakeRuntimes), Pods: pods, PodNames: fakeNames{pod: {"shop", "web-0"}}})
	r.CgroupCreated(0, 5, podPath+"/"+idWeb)
	if got := r.Lookup(0, 5); got.Name != "web-0" || got.Namespace != "shop" || got.PodUID != pod || got.Kind != model.WorkloadPod {
		t.Errorf("got %+v", got)
	}
}

// TestPodCorrected: what is learned later takes the place of what was known, and is told; a pod that goes keeps its name.
func TestPodCorrected(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pods, runtimes := new(fakePods), &fakeRuntimes{watching: make(chan watching, 1)}
		r := New(Config{Cgroups: newCgroups(nil), Runtimes: runtimes, Pods: pods, PodNames: fakeNames{}})
		var told recorder
		r.OnChange(told.changed)
		r.CgroupCreated(0, 5, podPath+"/"+idWeb)
		r.CgroupCreated(8, 50, podPath+"/"+idWeb) // the same in another hierarchy
		start(t, r)
		runtime := <-runtimes.watching
		synctest.Wait()
		if got := r.Lookup(0, 5); got.Name != pod || len(told.all()) != 0 {
			t.Errorf("before: %+v, %d changes", got, len(told.all()))
		}
		pods.set(pod, shopPod())
		r.PodChanged("another")
		r.PodChanged(pod)
		synctest.Wait()
		if got := r.Lookup(8, 50); got.Name != "web-0" || got.Controller.Name != "web" || got.Container != sandbox || len(told.all()) != 1 {
			t.Errorf("with Kubernetes: %+v, %d changes", got, len(told.all()))
		}
		runtime.found(idWeb, cri.Info{Runtime: "containerd", Name: "nginx", Container: "nginx", PodName: "web-0", Namespace: "shop", PodUID: pod})
		synctest.Wait()
		if got := r.Lookup(0, 5); got.Container != "nginx" || got.Controller.Name != "web" || got.Image != "nginx:1" || len(told.all()) != 2 {
			t.Errorf("with the runtime: %+v, %d changes", got, len(told.all()))
		}
		runtime.found(idWeb, cri.Info{Runtime: "containerd", Name: "nginx", Container: "nginx", PodName: "web-0", Namespace: "shop", PodUID: pod})
		relabeled := shopPod()
		relabeled.Labels = map[string]string{"app": "other"}
		pods.set(pod, relabeled)
		r.PodsChanged()
		pods.set(pod, nil)
		r.PodChanged(pod)
		synctest.Wait()
		got := r.Lookup(0, 5)
		if got.Labels["app"] != "other" || got.Name != "web-0" || len(told.all()) != 3 {
			t.Errorf("at the end: %+v, %d changes", got, len(told.all()))
		}
		if last := told.all()[2]; last[1] != got {
			t.Errorf("told %+v, it is %+v", last[1], got)
		}
	})
}

// TestRuntimeComesBack: a container that was made while the runtime told nobody is asked for when it tells again.
func TestRuntimeComesBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		runtimes := &fakeRuntimes{watching: make(chan watching, 1)}
		r := New(Config{Cgroups: newCgroups(nil), Runtimes: runtimes, RetryFirst: time.Hour, RetryMax: time.Hour})
		r.CgroupCreated(0, 5, podPath+"/"+idWeb)
		start(t, r)
		runtime := <-runtimes.watching
		synctest.Wait()
		runtimes.set(idWeb, cri.Info{Name: "nginx", Container: "nginx", PodName: "web-0", Namespace: "shop", PodUID: pod})
		began := time.Now()
		runtime.connected()
		synctest.Wait()
		if got := r.Lookup(0, 5); got.Name != "web-0" || time.Since(began) > time.Minute {
			t.Errorf("after %v: %+v", time.Since(began), got)
		}
	})
}

// TestForgedPod: a cgroup that anybody can have made is no pod's.
func TestForgedPod(t *testing.T) {
	pods := new(fakePods)
	pods.set(pod, shopPod())
	for _, path := range []string{
		"/user.slice/user-1000.slice/user@1000.service" + podPath + "/" + idAPI,
		"/docker/" + idWeb + podPath + "/" + idAPI,
		"/user.slice/user-1000.slice/user@1000.service" + podPath,
	} {
		r := New(Config{Cgroups: newCgroups(nil), Runtimes: new(fakeRuntimes), Pods: pods, PodNames: fakeNames{pod: {"shop", "web-0"}}})
		r.CgroupCreated(0, 5, path)
		if got := r.Lookup(0, 5); got != nil && (got.Name == "web-0" || got.Namespace != "") {
			t.Errorf("%s: %+v", path, got)
		}
	}
	// On a node that is itself a container it is the node's own.
	r := New(Config{Cgroups: newCgroups(nil), Runtimes: new(fakeRuntimes), Pods: pods, AskNested: true})
	r.CgroupCreated(0, 5, "/docker/"+idWeb+podPath+"/"+idAPI)
	if got := r.Lookup(0, 5); got.Name != "web-0" {
		t.Errorf("nested: %+v", got)
	}
}

func TestToldContainersAreBounded(t *testing.T) {
	told := newTold(2)
	told.add("a", cri.Info{Name: "a"})
	told.add("a", cri.Info{Name: "a2"})
	told.add("b", cri.Info{})
	told.add("c", cri.Info{})
	if _, ok := told.byID["a"]; ok || len(told.byID) != 2 {
		t.Errorf("%v", told.byID)
	}
	told.add("b", cri.Info{Name: "b2"})
	if told.byID["b"].Name != "b2" {
		t.Errorf("%v", told.byID)
	}
}

// TestPodEnded: the end of what holds a pod's network is told, that of another container is not.
func TestPodEnded(t *testing.T) {
	pods := new(fakePods)
	r := New(Config{Cgroups: newCgroups(nil), Runtimes: new(fakeRuntimes), Pods: pods})
	r.container(idWeb, cri.Info{Container: "nginx", PodName: "web-0", PodUID: pod})
	r.container(idAPI, cri.Info{Container: "POD", PodName: "web-0", PodUID: pod})
	r.CgroupCreated(0, 5, podPath+"/"+idWeb)
	r.CgroupCreated(0, 6, podPath+"/"+idAPI)
	r.CgroupRemoved(0, 5)
	if len(pods.ended) != 0 {
		t.Errorf("ended: %v", pods.ended)
	}
	r.CgroupRemoved(0, 6)
	if !reflect.DeepEqual(pods.ended, []string{pod}) {
		t.Errorf("ended: %v", pods.ended)
	}
}

// TestSandbox: of a pod that starts, the first container is its sandbox, until the runtime says otherwise.
func TestSandbox(t *testing.T) {
	r := New(Config{Cgroups: newCgroups(nil), Runtimes: new(fakeRuntimes), PodNames: fakeNames{pod: {"shop", "web-0"}}})
	r.CgroupCreated(0, 4, podPath)
	r.CgroupCreated(0, 5, podPath+"/"+idAPI)
	r.CgroupCreated(8, 50, podPath+"/"+idAPI)
	r.CgroupCreated(0, 6, podPath+"/"+idWeb)
	for id, want := range map[uint64]string{4: "", 5: "POD", 6: ""} {
		if got := r.Lookup(0, id); got.Container != want || got.Name != "web-0" {
			t.Errorf("cgroup %d: %+v, want container %q", id, got, want)
		}
	}
	r.container(idAPI, cri.Info{Container: "odd", PodName: "web-0", PodUID: pod})
	if got := r.Lookup(0, 5); got.Container != "odd" {
		t.Errorf("the runtime is not believed: %+v", got)
	}
	// CRI-O has none, and of a pod that was there nobody knows which was the first.
	crio := New(Config{Cgroups: newCgroups(nil), Runtimes: new(fakeRuntimes)})
	crio.CgroupCreated(0, 5, podPath+"/crio-"+idWeb)
	found := New(Config{Cgroups: newCgroups(map[uint64]string{5: podPath + "/" + idWeb}), Runtimes: new(fakeRuntimes)})
	for name, r := range map[string]*Resolver{"CRI-O": crio, "found": found} {
		if got := r.Lookup(0, 5); got.Container != "" {
			t.Errorf("%s: %+v", name, got)
		}
	}
}
