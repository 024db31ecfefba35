// SPDX-License-Identifier: Apache-2.0

package l7

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/vigie-io/vigie/internal/kernel"
	"github.com/vigie-io/vigie/internal/model"
	"github.com/vigie-io/vigie/internal/testkit"
)

func TestParseChoice(t *testing.T) {
	for _, off := range []string{"", "off"} {
		if c, err := ParseChoice(off, nil); c != nil || err != nil {
			t.Errorf("%q: %+v, %v", off, c, err)
		}
	}
	if c, err := ParseChoice("all", nil); err != nil || !c.Everybody() {
		t.Errorf("all: %+v, %v", c, err)
	}
	for _, bad := range []string{",", "a,", "[", "web,[a"} {
		if _, err := ParseChoice(bad, nil); err == nil {
			t.Errorf("%q is taken for patterns", bad)
		}
	}
	c, err := ParseChoice("web*, shop/api", nil)
	if err != nil {
		t.Fatal(err)
	}
	for w, want := range map[*model.Workload]bool{{Name: "web.service"}: true, {Name: "api"}: false, {Name: "api", Namespace: "shop"}: true,
		{Name: "web-1", Namespace: "other"}: true, nil: false} {
		if got := c.matches(w); got != want {
			t.Errorf("%+v: %v", w, got)
		}
	}
}

// oneCgroup is a host with one workload.
type oneCgroup struct {
	id   uint64
	name string
}

func (c oneCgroup) Each(fn func(hierarchy uint32, id uint64, w *model.Workload)) {
	fn(0, c.id, &model.Workload{Name: c.name, Cgroup: "/" + c.name})
	fn(0, c.id+1, nil)
}

func TestOnlyTheChosenAreListenedTo(t *testing.T) {
	testkit.RequireBPF(t)
	dir := filepath.Join(kernel.FindCgroup2(), fmt.Sprintf("vigie-l7-%d", os.Getpid()))
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Skipf("needs cgroup v2, writable: %v", err)
	}
	t.Cleanup(func() {
		if err := os.Remove(dir); err != nil {
			t.Error(err)
		}
	})
	f, err := os.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	choice, err := ParseChoice("chosen*", oneCgroup{st.Sys().(*syscall.Stat_t).Ino, "chosen-one"})
	if err != nil {
		t.Fatal(err)
	}
	w := newWorldOf(t, choice)
	curl := w.need("curl", "curl")
	server := w.nginx("listen 127.0.0.1:80;")
	w.run(curl, "-s", "http://127.0.0.1/by-nobody")
	w.ns.Do(t, func() error {
		cmd := exec.Command(curl, "-s", "http://127.0.0.1/by-the-chosen")
		cmd.SysProcAttr = &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: int(f.Fd())}
		return cmd.Run()
	})
	w.request("client", at("/by-the-chosen"))

	// A process whose cgroup tells nothing is known when its exec is.
	ran := w.Await(t, "the exec of nginx", func(e *model.Event) bool {
		return e.Type == model.TypeExec && e.Key.PID == uint32(server.Process.Pid)
	})
	choice.Observe(&model.Event{Type: model.TypeExec, Key: ran.Key, Process: &model.Process{Workload: &model.Workload{Name: "chosen by its ancestors"}}})
	w.run(curl, "-s", "http://127.0.0.1/to-the-chosen")
	w.request("server", at("/to-the-chosen"))
	for _, e := range w.Events(func(e *model.Event) bool { return e.Request != nil }) {
		if want := map[string]string{"/by-the-chosen": "client", "/to-the-chosen": "server"}[e.Request.Path]; e.Request.Role != want {
			t.Errorf("not chosen: %+v", *e.Request)
		}
	}
}
