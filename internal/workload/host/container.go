// SPDX-License-Identifier: Apache-2.0

package host

import (
	"strings"

	"github.com/vigie-io/vigie/internal/model"
)

// The runtimes that a path can name. Runtime stays empty where the path fits several.
const (
	RuntimeDocker     = "docker"
	RuntimeContainerd = "containerd"
	RuntimeCRIO       = "cri-o"
	RuntimePodman     = "podman"
	RuntimeLXC        = "lxc"
	RuntimeNspawn     = "systemd-nspawn"
)

const (
	idLength      = 64 // hexadecimal digits of a container id
	shortIDLength = 12 // as `docker ps` shows it
)

// container is one component of a path that stands for a container.
type container struct {
	name, id, runtime string
	end               int // index after the container's own last component
}

// parseContainer looks for the innermost container, or the pod that a path ends in.
func parseContainer(parts []string) (Found, bool) {
	var best container
	var depth int // containers from the root to best
	for i := range parts {
		if c, ok := containerAt(parts, i); ok {
			best = c
			depth++
		}
	}
	monitor := func(i int) bool { return i < len(parts) && strings.Contains(parts[i], "conmon") }
	if uid, end := podOf(parts); end > best.end && !monitor(end) {
		// The pod's own cgroup, outside of its containers: the helpers of a sandboxed runtime.
		f := Found{Owner: ownerOf(parts[:end]), Nested: depth > 0}
		f.Workload = model.Workload{Kind: model.WorkloadPod, Name: uid, ID: "pod:" + uid, PodUID: uid}
		return f.at(parts[:end]), true
	}
	if depth == 0 {
		return Found{}, false
	}
	f := Found{ContainerID: best.id, Owner: ownerOf(parts[:best.end]), Nested: depth > 1}
	f.Workload = model.Workload{Kind: model.WorkloadContainer, Name: best.name, ID: best.id, Runtime: best.runtime}
	if uid, end := podOf(parts[:best.end]); uid != "" && end >= best.end-1 {
		f.Workload.Kind, f.Workload.PodUID, f.Workload.Name = model.WorkloadPod, uid, uid
	}
	return f.at(parts[:best.end]), true
}

// at sets what depends on where the workload's own cgroup is.
func (f Found) at(parts []string) Found {
	f.Workload.Cgroup = join(parts)
	if f.Workload.ID == "" {
		f.Workload.ID = f.Workload.Cgroup
	}
	for _, p := range parts {
		if !strings.HasSuffix(p, ".slice") {
			break
		}
		f.Workload.Slice = unescapeCgroup(p)
	}
	return f
}

// containerAt says whether a container's cgroup begins at component i. Every shape that counts is
// here; a long hexadecimal name alone is not a container.
func containerAt(parts []string, i int) (container, bool) {
	p := parts[i]
	if id, runtime, ok := prefixedID(p); ok {
		return byID(id, runtime, i), true
	}
	if isID(p) {
		if runtime, ok := bareIDParent(parts[:i]); ok {
			return byID(p, runtime, i), true
		}
		return container{}, false
	}
	return namedContainer(parts, i)
}

func byID(id, runtime string, i int) container {
	return container{name: id[:shortIDLength], id: id, runtime: runtime, end: i + 1}
}

// prefixedID knows the components that carry the runtime's name before the id: the scopes of the
// systemd driver, the directories of CRI-O and Podman without systemd, and slice:prefix:id, which
// runc makes when it is given a systemd path but not told to use systemd.
func prefixedID(p string) (id, runtime string, ok bool) {
	if slice, rest, ok := strings.Cut(p, ".slice:"); ok && slice != "" {
		prefix, id, ok := strings.Cut(rest, ":")
		if runtime := runtimeOfPrefix(prefix); ok && runtime != "" && isID(id) {
			return id, runtime, true
		}
		return "", "", false
	}
	base, scope := strings.CutSuffix(p, ".scope")
	dash := strings.LastIndexByte(base, '-')
	if dash < 0 || !isID(base[dash+1:]) {
		return "", "", false
	}
	prefix := base[:dash]
	runtime = runtimeOfPrefix(prefix)
	directory := prefix == "crio" || prefix == "libpod" || prefix == "libpod-payload"
	return base[dash+1:], runtime, runtime != "" && (scope || directory)
}

// runtimeOfPrefix leaves out crio-conmon and libpod-conmon: the monitor is the host's, not the container's.
func runtimeOfPrefix(prefix string) string {
	switch prefix {
	case "docker":
		return RuntimeDocker
	case "cri-containerd", "nerdctl":
		return RuntimeContainerd
	case "crio":
		return RuntimeCRIO
	case "libpod", "libpod-payload":
		return RuntimePodman
	}
	return ""
}

// bareIDParent says whether a component below these that is only an id is a container: Docker's own
// parents, a Kubernetes pod, containerd's namespaces and the tasks of Amazon ECS.
func bareIDParent(above []string) (runtime string, ok bool) {
	n := len(above)
	if n == 0 {
		return "", false
	}
	switch above[n-1] {
	case "docker", "moby":
		return RuntimeDocker, true
	case "buildkit":
		return RuntimeDocker, n > 1 && above[n-2] == "docker"
	case "default", "k8s.io":
		return RuntimeContainerd, true
	}
	if _, end := podOf(above); end == n {
		return "", true
	}
	ecs := n > 1 && above[n-2] == "ecs" || n > 2 && above[n-3] == "ecs"
	return RuntimeDocker, ecs
}

// namedContainer knows the runtimes whose cgroups carry a name in place of an id.
func namedContainer(parts []string, i int) (container, bool) {
	p := parts[i]
	var next string
	if i+1 < len(parts) {
		next = parts[i+1]
	}
	if name, ok := strings.CutPrefix(p, "lxc.payload."); ok && name != "" {
		return container{name: name, runtime: RuntimeLXC, end: i + 1}, true
	}
	if next != "" && (p == "lxc.payload" || p == "lxc" && i == 0) {
		return container{name: next, runtime: RuntimeLXC, end: i + 2}, true
	}
	if name, ok := strings.CutPrefix(p, "systemd-nspawn@"); ok && next == "payload" {
		if name, ok = strings.CutSuffix(name, ".service"); ok && name != "" {
			return container{name: unescapeUnit(name), runtime: RuntimeNspawn, end: i + 1}, true
		}
	}
	if name, ok := strings.CutPrefix(p, "machine-"); ok && i > 0 && parts[i-1] == "machine.slice" {
		if name, ok = strings.CutSuffix(name, ".scope"); ok && name != "" {
			return machine(unescapeUnit(name), i)
		}
	}
	return container{}, false
}

// machine tells the scopes in machine.slice apart. libvirt calls its machines driver-number-name;
// a virtual machine of QEMU is a unit like another, its processes are the host's.
func machine(name string, i int) (container, bool) {
	if strings.HasPrefix(name, "qemu-") {
		return container{}, false
	}
	if rest, ok := strings.CutPrefix(name, "lxc-"); ok {
		if _, domain, ok := strings.Cut(rest, "-"); ok && domain != "" {
			return container{name: domain, runtime: RuntimeLXC, end: i + 1}, true
		}
	}
	return container{name: name, runtime: RuntimeNspawn, end: i + 1}, true
}

// podOf finds the last component that is a Kubernetes pod: its uid and the index after it; 0 if none.
func podOf(parts []string) (uid string, end int) {
	kubepods := false
	for i, p := range parts {
		kubepods = kubepods || strings.Contains(p, "kubepods")
		if !kubepods {
			continue
		}
		if u := podUID(p); u != "" {
			uid, end = u, i+1
		}
	}
	return uid, end
}

// podUID reads pod<uid> (cgroupfs driver) and …-pod<uid with underscores>.slice (systemd driver).
func podUID(p string) string {
	p, _, colon := strings.Cut(p, ".slice:")
	p, slice := strings.CutSuffix(p, ".slice")
	var uid string
	if slice || colon {
		i := strings.LastIndex(p, "-pod")
		if i < 0 || !strings.Contains(p[:i], "kubepods") {
			return ""
		}
		uid = strings.ReplaceAll(p[i+len("-pod"):], "_", "-")
	} else {
		var ok bool
		if uid, ok = strings.CutPrefix(p, "pod"); !ok {
			return ""
		}
	}
	if len(uid) < 16 || len(uid) > 64 {
		return ""
	}
	return uid
}

func isID(s string) bool {
	if len(s) != idLength {
		return false
	}
	for i := range len(s) {
		if (s[i] < '0' || s[i] > '9') && (s[i] < 'a' || s[i] > 'f') {
			return false
		}
	}
	return true
}

// unescapeUnit undoes systemd's escapes in the part of a unit's name that stands for something else: \x2d is '-'.
func unescapeUnit(s string) string {
	if !strings.Contains(s, `\x`) {
		return s
	}
	out := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		if i+3 < len(s) && s[i] == '\\' && s[i+1] == 'x' {
			hi, ok1 := hexDigit(s[i+2])
			lo, ok2 := hexDigit(s[i+3])
			if ok1 && ok2 {
				out = append(out, hi<<4|lo)
				i += 3
				continue
			}
		}
		out = append(out, s[i])
	}
	return model.CleanString(out)
}

func hexDigit(c byte) (byte, bool) {
	switch {
	case c >= '0' && c <= '9':
		return c - '0', true
	case c >= 'a' && c <= 'f':
		return c - 'a' + 10, true
	}
	return 0, false
}
