// SPDX-License-Identifier: Apache-2.0

package all

import (
	"context"
	"errors"
	"os"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/vigie-io/vigie/internal/kernel"
	"github.com/vigie-io/vigie/internal/model"
	"github.com/vigie-io/vigie/internal/sensor"
	"github.com/vigie-io/vigie/internal/sensor/file"
	"github.com/vigie-io/vigie/internal/sensor/privilege"
)

// learn has the world's back-ends see what the sensors see.
func (w *world) learn(sensors ...sensor.Sensor) {
	w.t.Helper()
	for _, s := range sensors {
		if err := s.Start(context.Background(), w.host); err != nil {
			w.t.Fatal(err)
		}
		for typ, decode := range s.Decoders() {
			w.mu.Lock()
			w.decoders[typ] = decode
			w.mu.Unlock()
		}
	}
}

// seen is what a sensor's record tells, in the way that the agent hands it on.
func (w *world) seen(r kernel.Record, h *kernel.Header, decode sensor.Decode) {
	ev := &model.Event{Key: h.Key(), TID: h.Tid, BootTime: h.Time, Count: h.Count, Process: &model.Process{Key: h.Key(), Binary: w.actor}}
	if keep, err := decode(r, ev); err != nil || !keep {
		return
	}
	w.enforcer.Learn(ev)
}

// What no hook can deny has happened, and who did it dies.
func TestKilledAfter(t *testing.T) {
	w := newWorld(t, "after")
	w.learn(file.New(file.Options{}))
	for _, name := range []string{"removed", "renamed", "mode"} {
		writeFile(t, w.dir+"/secret/"+name, nil, 0o644)
	}
	if err := w.tryApply("\tmode: enforce\n\tfiles: {deny: [{path: \"{dir}/secret/**\", access: [modify]}]}"); err == nil {
		t.Fatal("a denial that would be a kill after the fact was not refused")
	}
	w.apply("\tmode: enforce\n\tweaker: accept\n\tfiles: {deny: [{path: \"{dir}/secret/**\", access: [modify]}]}")
	for _, deed := range [][]string{
		{"and-wait", "unlink", "{dir}/secret/removed"}, {"and-wait", "rename", "{dir}/secret/renamed", "{dir}/data/renamed"},
		{"and-wait", "chmod", "{dir}/secret/mode"}, {"and-wait", "mkdir", "{dir}/secret/dir"},
	} {
		w.expect("killed", deed...)
		v := w.verdict(model.VerdictKilled, model.OpModify, deed[2])
		if v.Guarantee != model.KilledAfter || v.Rule != "files.deny[0]" {
			t.Errorf("%v: %s by %s", deed, v.Guarantee, v.Rule)
		}
	}
	if _, err := os.Stat(w.dir + "/secret/removed"); !errors.Is(err, unix.ENOENT) {
		t.Errorf("the file is still there: %v", err)
	}
	w.expect("ok", "mkdir", "{dir}/data/dir")
	// Who has ended can only be told of.
	writeFile(t, w.dir+"/secret/quick", nil, 0o644)
	w.forget()
	w.do("unlink", "{dir}/secret/quick")
	if v := w.verdict("", model.OpModify, w.dir+"/secret/quick"); v.Action == model.VerdictAudited && v.Guarantee != model.SeenOnly {
		t.Errorf("an ended process: %s", v.Guarantee)
	}
}

func TestAuditedAfter(t *testing.T) {
	w := newWorld(t, "after")
	w.learn(file.New(file.Options{}), privilege.New(privilege.Options{}))
	writeFile(t, w.dir+"/secret/key", nil, 0o644)
	if err := os.Mkdir(w.dir+"/mnt", 0o755); err != nil {
		t.Fatal(err)
	}
	defer unix.Unmount(w.dir+"/mnt", unix.MNT_DETACH)
	w.apply("\tmode: audit\n\tfiles: {deny: [{path: \"{dir}/secret/**\", access: [modify]}]}\n\tcapabilities: {deny: [{caps: [CAP_SYS_ADMIN]}]}")
	w.expect("ok", "chmod", "{dir}/secret/key")
	w.verdict(model.VerdictAudited, model.OpModify, w.dir+"/secret/key")
	w.expect("ok", "mount", "{dir}/mnt")
	if v := w.verdict(model.VerdictAudited, model.OpCapability, ""); v.Subject != "CAP_SYS_ADMIN" {
		t.Errorf("the verdict is about %q", v.Subject)
	}
}

func TestPrivilegesKilledAfter(t *testing.T) {
	w := newWorld(t, "after")
	w.learn(privilege.New(privilege.Options{}))
	w.apply("\tmode: enforce\n\tweaker: accept\n\toperations: {deny: [mount, ptrace]}")
	if err := os.Mkdir(w.dir+"/mnt", 0o755); err != nil {
		t.Fatal(err)
	}
	defer unix.Unmount(w.dir+"/mnt", unix.MNT_DETACH)
	w.expect("killed", "and-wait", "mount", "{dir}/mnt")
	w.verdict(model.VerdictKilled, model.OpMount, "")
	w.expect("ok", "nothing")
}
