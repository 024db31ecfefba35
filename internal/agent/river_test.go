// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"log/slog"
	"strings"
	"testing"
	"time"
	"unsafe"

	"github.com/vigie-io/vigie/internal/kernel"
	"github.com/vigie-io/vigie/internal/model"
	"github.com/vigie-io/vigie/internal/pipeline"
	"github.com/vigie-io/vigie/internal/process"
	"github.com/vigie-io/vigie/internal/sensor"
)

// fakeTime is both clocks of a host.
type fakeTime struct {
	wall time.Time
	boot uint64
}

func (f *fakeTime) pass(d time.Duration) { f.wall, f.boot = f.wall.Add(d), f.boot+uint64(d) }

type harness struct {
	*river
	time      *fakeTime
	published []*model.Event
}

// newRiver returns a river whose file decoder takes every record as a file event.
func newRiver() *harness {
	h := &harness{time: &fakeTime{wall: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), boot: uint64(time.Hour)}}
	c := newClock(func() time.Time { return h.time.wall }, func() uint64 { return h.time.boot })
	losses := new(pipeline.Losses)
	h.river = &river{log: slog.New(slog.DiscardHandler), clock: c, losses: losses, annotate: func(*model.Event) {},
		table:     process.New(process.Options{Boot: "01234567", Losses: losses, Wall: c.wall}),
		publish:   func(b []*model.Event) { h.published = append(h.published, b...) },
		malformed: losses.Counter("decode", "malformed record"), reported: make(map[pipeline.LossKey]uint64), counts: newCounts()}
	h.decoders[kernel.RecordFile] = func(_ kernel.Record, ev *model.Event) (bool, error) {
		ev.Type, ev.File = model.TypeFile, &model.File{}
		return true, nil
	}
	return h
}

// write takes in a record that the kernel would write now.
func (h *harness) write(typ kernel.RecordType) {
	header := &kernel.Header{Type: uint16(typ), Count: 1, Time: h.time.boot, Pid: 1, Start: 1}
	h.record(unsafe.Slice((*byte)(unsafe.Pointer(header)), unsafe.Sizeof(*header)))
}

func TestAStepOfTheWallClockShowsOnlyInWhatFollows(t *testing.T) {
	h := newRiver()
	h.write(kernel.RecordFile)
	h.flush()
	h.time.pass(time.Second)
	h.time.wall = h.time.wall.Add(-24 * time.Hour) // somebody sets the clock back
	h.flush()
	h.write(kernel.RecordFile)
	h.flush()
	first, second := h.published[0], h.published[1]
	if got := second.Time.Sub(first.Time); got != time.Second-24*time.Hour {
		t.Errorf("wall clock moved by %v", got)
	}
	if second.BootTime-first.BootTime != uint64(time.Second) || second.Seq != first.Seq+1 {
		t.Errorf("boot time and sequence must not step: %+v, %+v", first, second)
	}
}

func TestWhatCannotBeDecodedIsCountedAndTold(t *testing.T) {
	h := newRiver()
	h.record(kernel.Record{1, 2, 3})
	h.write(kernel.RecordTypes - 1)
	h.write(200)
	h.reportLosses(h.time.wall)
	h.flush()
	if len(h.published) != 1 || h.published[0].Type != model.TypeLoss || *h.published[0].Loss != (model.Loss{
		Stage: "decode", Reason: "malformed record", Count: 3, Total: 3}) {
		t.Fatalf("published %+v", h.published)
	}
	h.reportLosses(h.time.wall)
	h.flush()
	if len(h.published) != 1 {
		t.Error("a loss was told twice")
	}
}

func TestWhatASubscriberLosesIsNotTheOthersNews(t *testing.T) {
	h := newRiver()
	h.losses.Counter("subscriber", "client").Add(7)
	h.reportLosses(h.time.wall)
	h.flush()
	if len(h.published) != 0 {
		t.Errorf("published %+v", h.published)
	}
}

func TestInventoriesAreTakenInParentsFirst(t *testing.T) {
	h := newRiver()
	for _, start := range []uint64{30, 10, 20} {
		key := model.ProcessKey{PID: uint32(start), Start: start}
		h.found = append(h.found, &model.Event{Type: model.TypeExec, Key: key, PreExisting: true, Exec: &model.Exec{},
			Process: &model.Process{Key: key, ParentKey: model.ProcessKey{PID: uint32(start - 10), Start: start - 10}}})
	}
	h.found = append([]*model.Event{{Type: model.TypeListen, Key: model.ProcessKey{PID: 10, Start: 10}, Socket: &model.Socket{}}}, h.found...)
	filled := 0
	h.settle(func(*model.Process) { filled++ })
	if filled != 3 || len(h.published) != 4 || h.published[3].Type != model.TypeListen {
		t.Fatalf("filled %d, published %d", filled, len(h.published))
	}
	if p := h.published[2].Parent; p == nil || p.Key.PID != 20 {
		t.Errorf("parent of the youngest is %+v", p)
	}
	if h.published[3].Process.Key.Start != 10 {
		t.Errorf("the listener's process is %+v", h.published[3].Process)
	}
}

func TestAlertsFollowTheirEvents(t *testing.T) {
	h := newRiver()
	h.detect = func(ev *model.Event) []*model.Event {
		if ev.Seq != 2 {
			return nil
		}
		alert := func() *model.Event {
			return &model.Event{Type: model.TypeAlert, Process: ev.Process, Alert: &model.Alert{EventSeq: ev.Seq}}
		}
		return []*model.Event{alert(), alert()}
	}
	for range 3 {
		h.write(kernel.RecordFile)
	}
	h.flush()
	var got []string
	for i, ev := range h.published {
		got = append(got, string(ev.Type))
		if ev.Seq != uint64(i+1) {
			t.Errorf("event %d has number %d", i+1, ev.Seq)
		}
	}
	if strings.Join(got, " ") != "file file alert alert file" || h.published[2].Alert.EventSeq != 2 {
		t.Errorf("published %v", got)
	}
	if n := h.eventCounts()[model.TypeAlert]; n != 2 {
		t.Errorf("%d alerts are counted", n)
	}
}

func TestARecordTypeHasOneDecoder(t *testing.T) {
	h := newRiver()
	if err := h.register(fakeSensor{}); err == nil {
		t.Error("a second decoder for files was taken")
	}
}

type fakeSensor struct{ sensor.Sensor }

func (fakeSensor) Name() string { return "fake" }

func (fakeSensor) Decoders() map[kernel.RecordType]sensor.Decode {
	return map[kernel.RecordType]sensor.Decode{kernel.RecordFile: nil}
}

func TestConfigNamesWhatIsWrong(t *testing.T) {
	c := Default()
	if err := c.Validate(); err != nil {
		t.Errorf("the defaults are refused: %v", err)
	}
	c.StateDir, c.TLSCert, c.ArgsLimit, c.Sensors = "relative", "cert.pem", 9000, []string{"exec", "nose"}
	c.Rules, c.RulesDir = "maybe", "relative"
	c.ExportSyslog, c.Metrics = "/dev/log", []string{"none"}
	err := c.Validate()
	for _, field := range []string{"state-dir", "tls-cert", "args-limit", "sensors", "rules", "rules-dir", "export-syslog", "metrics"} {
		if err == nil || !strings.Contains(err.Error(), field+": ") {
			t.Errorf("%q is not named in: %v", field, err)
		}
	}
}
