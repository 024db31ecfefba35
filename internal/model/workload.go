// SPDX-License-Identifier: Apache-2.0

package model

// WorkloadKind says what a workload is.
type WorkloadKind string

// The kinds of workload.
const (
	WorkloadUnknown   WorkloadKind = "unknown"   // could not be resolved (yet)
	WorkloadUnit      WorkloadKind = "unit"      // a systemd service, socket, scope or timer unit
	WorkloadSession   WorkloadKind = "session"   // a login session or a user's own manager
	WorkloadContainer WorkloadKind = "container" // a container outside Kubernetes
	WorkloadPod       WorkloadKind = "pod"       // a container of a Kubernetes pod
	WorkloadProcess   WorkloadKind = "process"   // a process tree without any of the above, named by its root service
	WorkloadKernel    WorkloadKind = "kernel"    // kernel threads
)

// WorkloadKinds lists every kind, in the order in which help texts show them.
func WorkloadKinds() []WorkloadKind {
	return []WorkloadKind{WorkloadUnit, WorkloadSession, WorkloadContainer, WorkloadPod, WorkloadProcess,
		WorkloadKernel, WorkloadUnknown}
}

// Workload is what the user deployed. It is shared by all its processes and immutable: a resolver
// that learns more (a container's name, say) publishes a new one.
type Workload struct {
	Kind WorkloadKind
	// Name is what a person calls it: "nginx.service", "session-3 (alice)", a container's name, a pod's name.
	Name      string
	Namespace string // Kubernetes namespace; empty elsewhere
	ID        string // container id, cgroup path or "process:" and an exec_id: unique on the host
	Runtime   string // docker, containerd, cri-o, podman, lxc, systemd-nspawn; empty elsewhere
	Image     string // image reference; empty where there is none or it is not known yet
	Container string // container name inside a pod
	PodUID    string // Kubernetes pod uid, dashes included
	// Controller, ServiceAccount and Node are of pods, and empty until the API server has told them.
	Controller     Controller
	ServiceAccount string
	Node           string
	User           string            // login name, else uid, of who owns a session, a user unit or a rootless container
	Slice          string            // systemd slice, e.g. system.slice
	Labels         map[string]string // container or pod labels; never modified
	Cgroup         string            // path of its cgroup below the mount
}
