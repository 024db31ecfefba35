// SPDX-License-Identifier: Apache-2.0

package host

import (
	"reflect"
	"strings"
	"testing"

	"github.com/vigie-io/vigie/internal/model"
)

const (
	idA    = "3f4e1c5a9b7d2e6f8091a2b3c4d5e6f708192a3b4c5d6e7f8091a2b3c4d5e6f7"
	idB    = "b0c1d2e3f405162738495a6b7c8d9eaf0b1c2d3e4f5061728394a5b6c7d8e9f0"
	uid    = "0c8b2f4e-6d1a-4a3b-9c5d-7e8f90a1b2c3"
	uidBar = "0c8b2f4e_6d1a_4a3b_9c5d_7e8f90a1b2c3"
	static = "d3c1ab0f9e8d7c6b5a49382716051423" // a static pod's uid is a hash
)

func login(uid uint32) string {
	return map[uint32]string{0: "root", 1000: "alice"}[uid]
}

// want builds the expected result; id and cgroup default as the kinds do.
type want struct {
	kind                         model.WorkloadKind
	name, id, runtime, pod, user string
	slice, cgroup                string // cgroup "" is the whole path
	owner                        uint32
	owned, nested                bool
}

func TestParse(t *testing.T) {
	const (
		unit      = model.WorkloadUnit
		session   = model.WorkloadSession
		container = model.WorkloadContainer
		pod       = model.WorkloadPod
	)
	podSlice := "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod" + uidBar + ".slice"
	kind := "/system.slice/docker-" + idA + ".scope"
	kindPod := kind + "/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-besteffort.slice/kubelet-kubepods-besteffort-pod" + uidBar + ".slice"
	user := "/user.slice/user-1000.slice/user@1000.service"

	for path, w := range map[string]want{
		// systemd: system units
		"/init.scope":                          {kind: unit, name: "init.scope"},
		"/system.slice/nginx.service":          {kind: unit, name: "nginx.service", slice: "system.slice"},
		"/system.slice/nginx.service/worker/1": {kind: unit, name: "nginx.service", slice: "system.slice", cgroup: "/system.slice/nginx.service"},
		"/system.slice/system-postgresql.slice/postgresql@15-main.service": {kind: unit, name: "postgresql@15-main.service", slice: "system-postgresql.slice"},
		`/system.slice/system-systemd\x2dcryptsetup.slice/systemd-cryptsetup@luks\x2d1.service`: {kind: unit,
			name: `systemd-cryptsetup@luks\x2d1.service`, slice: `system-systemd\x2dcryptsetup.slice`},
		`/system.slice/dev-disk-by\x2duuid-1234.swap`:               {kind: unit, name: `dev-disk-by\x2duuid-1234.swap`, slice: "system.slice"},
		"/system.slice/_cpu.service":                                {kind: unit, name: "cpu.service", slice: "system.slice"},
		"/system.slice/ssh.socket":                                  {kind: unit, name: "ssh.socket", slice: "system.slice"},
		"/system.slice/run-rpc_pipefs.mount":                        {kind: unit, name: "run-rpc_pipefs.mount", slice: "system.slice"},
		"/system.slice/run-r6f1c0a4de2b84c5b.scope":                 {kind: unit, name: "run-r6f1c0a4de2b84c5b.scope", slice: "system.slice"},
		"/system.slice/containerd.service":                          {kind: unit, name: "containerd.service", slice: "system.slice"},
		"/top.service":                                              {kind: unit, name: "top.service"},
		`/machine.slice/machine-qemu\x2d1\x2dvm.scope/libvirt`:      {kind: unit, name: `machine-qemu\x2d1\x2dvm.scope`, slice: "machine.slice", cgroup: `/machine.slice/machine-qemu\x2d1\x2dvm.scope`},
		"/machine.slice/systemd-nspawn@deb.service/supervisor":      {kind: unit, name: "systemd-nspawn@deb.service", slice: "machine.slice", cgroup: "/machine.slice/systemd-nspawn@deb.service"},
		"/machine.slice/libpod-conmon-" + idA + ".scope":            {kind: unit, name: "libpod-conmon-" + idA + ".scope", slice: "machine.slice"},
		podSlice + "/crio-conmon-" + idA + ".scope":                 {kind: unit, name: "crio-conmon-" + idA + ".scope", slice: "kubepods-burstable-pod" + uidBar + ".slice"},
		"/user.slice/user-1000.slice/user-runtime-dir@1000.service": {kind: unit, name: "user-runtime-dir@1000.service", slice: "user-1000.slice", user: "alice"},
		"/openrc.sshd":                     {kind: unit, name: "sshd"},
		"/openrc/nginx":                    {kind: unit, name: "nginx"},
		"/../../system.slice/cron.service": {kind: unit, name: "cron.service", slice: "system.slice", cgroup: "/system.slice/cron.service"},

		// systemd: users
		"/user.slice/user-1000.slice/session-3.scope":     {kind: session, name: "session-3 (alice)", user: "alice", slice: "user-1000.slice"},
		"/user.slice/user-0.slice/session-c1.scope":       {kind: session, name: "session-c1 (root)", user: "root", slice: "user-0.slice"},
		"/user.slice/user-1234.slice/session-8.scope/sub": {kind: session, name: "session-8 (1234)", user: "1234", slice: "user-1234.slice", cgroup: "/user.slice/user-1234.slice/session-8.scope"},
		user:                                    {kind: session, name: "user@1000 (alice)", user: "alice", slice: "user-1000.slice"},
		user + "/init.scope":                    {kind: session, name: "user@1000 (alice)", user: "alice", slice: "user-1000.slice", cgroup: user},
		user + "/app.slice/app-foo.scope":       {kind: unit, name: "app-foo.scope", user: "alice", slice: "app.slice"},
		user + "/app.slice/syncthing.service/x": {kind: unit, name: "syncthing.service", user: "alice", slice: "app.slice", cgroup: user + "/app.slice/syncthing.service"},
		user + "/session.slice/org.gnome.Shell@wayland.service": {kind: unit, name: "org.gnome.Shell@wayland.service", user: "alice", slice: "session.slice"},
		user + "/dbus.service": {kind: unit, name: "dbus.service", user: "alice", slice: "user-1000.slice"},

		// Docker
		"/docker/" + idA:                                            {kind: container, id: idA, runtime: "docker"},
		"/docker/" + idA + "/init":                                  {kind: container, id: idA, runtime: "docker", cgroup: "/docker/" + idA},
		"/docker/buildkit/" + idA:                                   {kind: container, id: idA, runtime: "docker"},
		"/system.slice/docker-" + idA + ".scope":                    {kind: container, id: idA, runtime: "docker", slice: "system.slice"},
		kind + "/system.slice/containerd.service":                   {kind: container, id: idA, runtime: "docker", slice: "system.slice", cgroup: kind},
		user + "/user.slice/docker-" + idA + ".scope":               {kind: container, id: idA, runtime: "docker", slice: "user-1000.slice", user: "alice", owned: true, owner: 1000},
		user + "/app.slice/docker.service/docker/" + idA:            {kind: container, id: idA, runtime: "docker", slice: "user-1000.slice", user: "alice", owned: true, owner: 1000},
		"/docker/" + idA + "/docker/" + idB:                         {kind: container, id: idB, runtime: "docker", nested: true},
		"/../../docker/" + idA:                                      {kind: container, id: idA, runtime: "docker", cgroup: "/docker/" + idA},
		"/ecs/0123456789abcdef/" + idA:                              {kind: container, id: idA, runtime: "docker"},
		"/ecs/cluster/0123456789abcdef/" + idA:                      {kind: container, id: idA, runtime: "docker"},
		"/ecstasks.slice/ecstasks-1.slice/docker-" + idA + ".scope": {kind: container, id: idA, runtime: "docker", slice: "ecstasks-1.slice"},

		// containerd and nerdctl
		"/default/" + idA: {kind: container, id: idA, runtime: "containerd"},
		"/k8s.io/" + idA:  {kind: container, id: idA, runtime: "containerd"},
		"/moby/" + idA:    {kind: container, id: idA, runtime: "docker"},
		"/system.slice/nerdctl-" + idA + ".scope": {kind: container, id: idA, runtime: "containerd", slice: "system.slice"},

		// Kubernetes
		podSlice + "/cri-containerd-" + idA + ".scope": {kind: pod, id: idA, runtime: "containerd", pod: uid, slice: "kubepods-burstable-pod" + uidBar + ".slice"},
		podSlice + "/crio-" + idA + ".scope":           {kind: pod, id: idA, runtime: "cri-o", pod: uid, slice: "kubepods-burstable-pod" + uidBar + ".slice"},
		podSlice + "/crio-" + idA + ".scope/container": {kind: pod, id: idA, runtime: "cri-o", pod: uid, slice: "kubepods-burstable-pod" + uidBar + ".slice", cgroup: podSlice + "/crio-" + idA + ".scope"},
		podSlice + "/docker-" + idA + ".scope":         {kind: pod, id: idA, runtime: "docker", pod: uid, slice: "kubepods-burstable-pod" + uidBar + ".slice"},
		podSlice:                                       {kind: pod, id: "pod:" + uid, pod: uid, slice: "kubepods-burstable-pod" + uidBar + ".slice"},
		"/kubepods.slice/kubepods-pod" + static + ".slice/cri-containerd-" + idA + ".scope":                 {kind: pod, id: idA, runtime: "containerd", pod: static, slice: "kubepods-pod" + static + ".slice"},
		"/kubepods/burstable/pod" + uid + "/" + idA:                                                         {kind: pod, id: idA, pod: uid},
		"/kubepods/pod" + uid + "/" + idA + "/sub":                                                          {kind: pod, id: idA, pod: uid, cgroup: "/kubepods/pod" + uid + "/" + idA},
		"/kubepods/besteffort/pod" + static + "/" + idA:                                                     {kind: pod, id: idA, pod: static},
		"/kubepods/besteffort/pod" + uid + "/crio-" + idA:                                                   {kind: pod, id: idA, runtime: "cri-o", pod: uid},
		"/kubepods/besteffort/pod" + uid + "/kata_" + idA:                                                   {kind: pod, id: "pod:" + uid, pod: uid, cgroup: "/kubepods/besteffort/pod" + uid},
		"/kubelet/kubepods/burstable/pod" + uid + "/" + idA:                                                 {kind: pod, id: idA, pod: uid},
		"/../../kubepods/burstable/pod" + uid + "/" + idA:                                                   {kind: pod, id: idA, pod: uid, cgroup: "/kubepods/burstable/pod" + uid + "/" + idA},
		"/system.slice/containerd.service/kubepods-burstable-pod" + uidBar + ".slice:cri-containerd:" + idA: {kind: pod, id: idA, runtime: "containerd", pod: uid, slice: "system.slice"},
		"/system.slice/k3s.service/kubepods/besteffort/pod" + uid + "/" + idA:                               {kind: pod, id: idA, pod: uid, slice: "system.slice"},
		// … in containers: kind, k3d
		kindPod + "/cri-containerd-" + idB + ".scope":                          {kind: pod, id: idB, runtime: "containerd", pod: uid, slice: "system.slice", nested: true},
		kindPod + "/crio-conmon-" + idB + ".scope":                             {kind: container, id: idA, runtime: "docker", slice: "system.slice", cgroup: kind},
		"/docker/" + idA + "/kubelet/kubepods/burstable/pod" + uid + "/" + idB: {kind: pod, id: idB, pod: uid, nested: true},
		"/docker/" + idA + "/kubepods/pod" + uid:                               {kind: pod, id: "pod:" + uid, pod: uid, nested: true},
		"/kubepods/pod" + uid + "/" + idA + "/docker/" + idB:                   {kind: container, id: idB, runtime: "docker", nested: true},

		// Podman
		"/machine.slice/libpod-" + idA + ".scope":                                      {kind: container, id: idA, runtime: "podman", slice: "machine.slice"},
		"/machine.slice/libpod-" + idA + ".scope/container":                            {kind: container, id: idA, runtime: "podman", slice: "machine.slice", cgroup: "/machine.slice/libpod-" + idA + ".scope"},
		"/machine.slice/machine-libpod_pod_" + idB + ".slice/libpod-" + idA + ".scope": {kind: container, id: idA, runtime: "podman", slice: "machine-libpod_pod_" + idB + ".slice"},
		"/libpod_parent/libpod-" + idA:                                                 {kind: container, id: idA, runtime: "podman"},
		"/system.slice/web.service/libpod-payload-" + idA:                              {kind: container, id: idA, runtime: "podman", slice: "system.slice"},
		user + "/user.slice/libpod-" + idA + ".scope/container":                        {kind: container, id: idA, runtime: "podman", slice: "user-1000.slice", cgroup: user + "/user.slice/libpod-" + idA + ".scope", user: "alice", owned: true, owner: 1000},

		// LXC and systemd-nspawn
		"/lxc.payload.web":                                                         {kind: container, name: "web", runtime: "lxc"},
		"/lxc.payload.web/system.slice/ssh.service":                                {kind: container, name: "web", runtime: "lxc", cgroup: "/lxc.payload.web"},
		"/lxc.payload/web/init.scope":                                              {kind: container, name: "web", runtime: "lxc", cgroup: "/lxc.payload/web"},
		"/lxc/101/ns/system.slice/cron.service":                                    {kind: container, name: "101", runtime: "lxc", cgroup: "/lxc/101"},
		`/machine.slice/machine-my\x2ddeb.scope/payload/system.slice/cron.service`: {kind: container, name: "my-deb", runtime: "systemd-nspawn", slice: "machine.slice", cgroup: `/machine.slice/machine-my\x2ddeb.scope`},
		`/machine.slice/machine-lxc\x2d42\x2dct.scope`:                             {kind: container, name: "ct", runtime: "lxc", slice: "machine.slice"},
		"/machine.slice/systemd-nspawn@deb.service/payload/init.scope":             {kind: container, name: "deb", runtime: "systemd-nspawn", slice: "machine.slice", cgroup: "/machine.slice/systemd-nspawn@deb.service"},
	} {
		f, ok := Parse(path, login)
		if !ok {
			t.Errorf("%s: no workload", path)
			continue
		}
		if got, exp := f, w.found(path); !reflect.DeepEqual(got, exp) {
			t.Errorf("%s:\n got %+v\nwant %+v", path, got, exp)
		}
	}
}

func (w want) found(path string) Found {
	f := Found{Owner: model.NoUID, Nested: w.nested, Workload: model.Workload{Kind: w.kind, Name: w.name, ID: w.id,
		Runtime: w.runtime, PodUID: w.pod, User: w.user, Slice: w.slice, Cgroup: w.cgroup}}
	if w.owned {
		f.Owner = w.owner
	}
	if w.cgroup == "" {
		f.Workload.Cgroup = path
	}
	if !strings.HasPrefix(w.id, "pod:") {
		f.ContainerID = w.id
	}
	if w.id == "" {
		f.Workload.ID = f.Workload.Cgroup
	}
	if w.name == "" && w.kind == model.WorkloadContainer {
		f.Workload.Name = w.id[:12]
	}
	if w.kind == model.WorkloadPod {
		f.Workload.Name = w.pod
	}
	return f
}

func TestParseNone(t *testing.T) {
	for _, path := range []string{
		"", "/", "/..", "/../..", "relative",
		"/system.slice", "/user.slice/user-1000.slice", "/machine.slice",
		"/process_api/40fdd8d0cbfb54e661fe192f71618552", // an accounting group of a VM agent
		"/process_api/" + idA,
		"/" + idA,
		"/batch/" + idA + "/job.d",
		"/docker",
		"/docker/" + idA[:63],
		"/docker/" + strings.ToUpper(idA),
		"/docker-" + idA,
		"/conmon-" + idA,
		"/kubepods", "/kubepods/burstable",
		"/kubepods/burstable/pod" + uid + "/crio-conmon-" + idA,
		"/pod" + uid + "/" + idA, // no kubepods above
		"/libpod_parent/conmon",
		"/lxc.monitor.web", "/lxc.monitor/web", "/lxc.payload.", "/lxc",
		"/openrc.", "/openrc",
		"/.service", "/batch/nginx.service",
	} {
		if f, ok := Parse(path, login); ok {
			t.Errorf("%q: got %+v, want none", path, f)
		}
	}
}

func TestParseCleansText(t *testing.T) {
	f, ok := Parse("/system.slice/a\xffb.service", nil)
	if !ok || f.Workload.Name != `a\xffb.service` {
		t.Errorf("got %q, %v", f.Workload.Name, ok)
	}
}

// FuzzParse: whatever a cgroup is called, the answer is whole.
func FuzzParse(f *testing.F) {
	f.Add("/kubepods/burstable/pod" + uid + "/" + idA)
	f.Add("/machine.slice/machine-a\\x2d.scope")
	f.Add("/a.slice:docker:" + idA)
	f.Fuzz(func(t *testing.T, path string) {
		found, ok := Parse(path, login)
		w := found.Workload
		if ok != (w.Kind != "") || ok && (w.Name == "" || w.ID == "" || !strings.HasPrefix(w.Cgroup, "/")) {
			t.Errorf("%q: %v %+v", path, ok, w)
		}
	})
}
