// SPDX-License-Identifier: Apache-2.0

package workload

import (
	"fmt"
	"testing"

	"github.com/vigie-io/vigie/internal/model"
)

func TestFromProcessTree(t *testing.T) {
	host := model.Namespaces{PID: 1, Mnt: 1}
	inner := model.Namespaces{PID: 2, Mnt: 2}
	proc := func(pid uint32, binary string, ns model.Namespaces) *model.Process {
		return &model.Process{Key: model.ProcessKey{PID: pid}, ExecID: fmt.Sprintf("boot-%d", pid), Binary: binary, Namespaces: ns}
	}
	kthread := &model.Process{Key: model.ProcessKey{PID: 2}, KernelThread: true}
	init := proc(1, "/usr/lib/systemd/systemd", host)
	agent := proc(1, "/opt/process_api", host)
	sshd := proc(100, "/usr/sbin/sshd", host)
	shim := proc(300, "/usr/bin/containerd-shim-runc-v2", host)
	earlier := &model.Workload{Kind: model.WorkloadProcess, Name: "sshd", ID: "process:boot-90"}
	inherited := proc(100, "/usr/bin/bash", host)
	inherited.Workload = earlier
	moved := proc(100, "/usr/sbin/sshd", host)
	moved.Workload = &model.Workload{Kind: model.WorkloadUnit, Name: "ssh.service"}
	script := proc(100, "/usr/bin/python3", host)
	script.File.Script = "/usr/bin/fail2ban-server"
	nameless := &model.Process{Key: model.ProcessKey{PID: 7}, ExecID: "boot-7", Args: []string{"./a/b", "c"}}

	for name, c := range map[string]struct {
		ancestors []*model.Process
		name, id  string
	}{
		"a login shell's child":                        {[]*model.Process{proc(102, "/bin/ls", host), proc(101, "/bin/bash", host), sshd, init}, "sshd", "boot-100"},
		"the service itself":                           {[]*model.Process{sshd, init}, "sshd", "boot-100"},
		"pid 1":                                        {[]*model.Process{init}, "systemd", "boot-1"},
		"a virtual machine's agent":                    {[]*model.Process{agent}, "process_api", "boot-1"},
		"below a virtual machine's agent":              {[]*model.Process{proc(9, "/bin/sleep", host), proc(8, "/bin/bash", host), agent}, "bash", "boot-8"},
		"started by the kernel":                        {[]*model.Process{proc(40, "/sbin/modprobe", host), kthread}, "modprobe", "boot-40"},
		"ancestors forgotten":                          {[]*model.Process{proc(102, "/bin/ls", host), sshd}, "sshd", "boot-100"},
		"ancestors forgotten since the root was named": {[]*model.Process{proc(102, "/bin/ls", host), inherited}, "sshd", "boot-90"},
		"root in another workload":                     {[]*model.Process{proc(102, "/bin/ls", host), moved, init}, "sshd", "boot-100"},
		"a script":                                     {[]*model.Process{script, init}, "fail2ban-server", "boot-100"},
		"no binary":                                    {[]*model.Process{nameless}, "b", "boot-7"},
		"nothing known":                                {[]*model.Process{{Key: model.ProcessKey{PID: 7}, ExecID: "boot-7"}}, "pid 7", "boot-7"},
		"a container's application":                    {[]*model.Process{proc(302, "/bin/sh", inner), proc(301, "/usr/bin/redis-server", inner), shim, init}, "redis-server", "boot-301"},
		"a container with an init":                     {[]*model.Process{proc(303, "/bin/sh", inner), proc(302, "/app", inner), proc(301, "/usr/bin/tini", inner), shim, init}, "app", "boot-302"},
		"a container's init":                           {[]*model.Process{proc(301, "/usr/bin/tini", inner), shim, init}, "tini", "boot-301"},
		"a pid namespace alone":                        {[]*model.Process{proc(302, "/opt/browser", model.Namespaces{PID: 2, Mnt: 1}), proc(301, "/opt/browser", host), init}, "browser", "boot-301"},
		"namespaces not known":                         {[]*model.Process{proc(302, "/bin/sh", inner), proc(301, "/usr/sbin/cron", model.Namespaces{}), init}, "cron", "boot-301"},
	} {
		w := FromProcessTree(c.ancestors)
		if w == nil || w.Kind != model.WorkloadProcess || w.Name != c.name || w.ID != "process:"+c.id {
			t.Errorf("%s: got %+v, want %s of %s", name, w, c.name, c.id)
		}
	}
	if w := FromProcessTree([]*model.Process{{Key: model.ProcessKey{PID: 30}, KernelThread: true}, kthread}); w == nil || w.Kind != model.WorkloadKernel {
		t.Errorf("a kernel thread: %+v", w)
	}
	if w := FromProcessTree(nil); w != nil {
		t.Errorf("nobody: %+v", w)
	}
	if w := FromProcessTree([]*model.Process{proc(102, "/bin/ls", host), inherited}); w != earlier {
		t.Errorf("the root's workload is not shared: %p, want %p", w, earlier)
	}
}
