// SPDX-License-Identifier: Apache-2.0

package workload

import (
	"path"
	"strconv"

	"github.com/vigie-io/vigie/internal/model"
)

// FromProcessTree is the function of that name, for those who hold a Resolver.
func (r *Resolver) FromProcessTree(ancestors []*model.Process) *model.Workload {
	return FromProcessTree(ancestors)
}

// FromProcessTree names the workload of a process whose cgroup says nothing, after the root of the
// service that it is part of: its top-most ancestor below pid 1 or, in a container that has no cgroup
// of its own, the container's first process (or its child, if the first is only an init). Ancestors
// begin with the process itself, its parent next; they may end early. Nil for an empty list.
func FromProcessTree(ancestors []*model.Process) *model.Workload {
	if len(ancestors) == 0 {
		return nil
	}
	if ancestors[0].KernelThread {
		return &model.Workload{Kind: model.WorkloadKernel, Name: "kernel", ID: "kernel"}
	}
	root := rootOfService(ancestors)
	// A root that was there before us has the workload already; and if its own ancestors are forgotten
	// by now, a better one than could be found today.
	if w := root.Workload; w != nil && w.Kind == model.WorkloadProcess {
		return w
	}
	return &model.Workload{Kind: model.WorkloadProcess, Name: serviceName(root), ID: "process:" + root.ExecID}
}

func rootOfService(ancestors []*model.Process) *model.Process {
	for i, p := range ancestors[:len(ancestors)-1] {
		parent := ancestors[i+1]
		if parent.Key.PID == 1 || parent.KernelThread {
			return p
		}
		if entersContainer(parent, p) {
			if i > 0 && isInit(p) {
				return ancestors[i-1]
			}
			return p
		}
	}
	return ancestors[len(ancestors)-1]
}

// entersContainer reports whether p is the first process of a container: browsers make pid namespaces
// for their parts, but only a container has its own mounts as well.
func entersContainer(parent, p *model.Process) bool {
	differ := func(a, b uint32) bool { return a != 0 && b != 0 && a != b }
	return differ(parent.Namespaces.PID, p.Namespaces.PID) && differ(parent.Namespaces.Mnt, p.Namespaces.Mnt)
}

// isInit reports whether a process only looks after its children.
func isInit(p *model.Process) bool {
	switch path.Base(p.Binary) {
	case "systemd", "init", "openrc-init", "runit", "runsvdir", "s6-svscan", // of systems
		"tini", "docker-init", "catatonit", "dumb-init", "pause": // of containers
		return true
	}
	return false
}

func serviceName(p *model.Process) string {
	for _, name := range []string{p.File.Script, p.Binary} {
		if name != "" {
			return path.Base(name)
		}
	}
	if len(p.Args) > 0 && p.Args[0] != "" {
		return path.Base(p.Args[0])
	}
	return "pid " + strconv.FormatUint(uint64(p.Key.PID), 10)
}
