// SPDX-License-Identifier: Apache-2.0

// Package modeltest makes events for tests: every field that the model has is filled by reflection, so
// that a new field that some code forgets shows at once. In: a random source. Out: events in the
// canonical form, the one that the API can carry whole.
package modeltest

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"reflect"
	"time"

	"github.com/vigie-io/vigie/internal/model"
)

// Boot is the beginning of the boot id in the exec_ids of events made here.
const Boot = "0123abcd"

// Event makes a random event, every field of it set with the probability density (1 sets all, also
// those that no real event has together).
func Event(rng *rand.Rand, density float64) *model.Event {
	e := new(model.Event)
	filler{rng, density}.fill(reflect.ValueOf(e).Elem())
	if density < 1 && rng.IntN(2) == 0 {
		types := model.Types()
		e.Type = types[rng.IntN(len(types))]
	}
	canonical(e, rng)
	return e
}

// canonical drops what the API does not carry and makes the rest agree with itself.
func canonical(e *model.Event, rng *rand.Rand) {
	e.Key = model.ProcessKey{}
	if p := e.Process; p != nil {
		p.ExecID, e.Key = p.Key.ExecID(Boot), p.Key
		p.ParentExecID = ""
		if !p.ParentKey.IsZero() {
			p.ParentExecID = p.ParentKey.ExecID(Boot)
		}
		if e.Parent = short(e.Parent); e.Parent != nil {
			p.ParentKey, p.ParentExecID = e.Parent.Key, e.Parent.ExecID
			if e.Parent.Binary == "" && e.Parent.Args == nil {
				e.Parent = nil // nothing but the exec_id is no parent
			}
		}
	} else {
		e.Parent = nil
	}
	if e.Ptrace != nil {
		e.Ptrace.Target = short(e.Ptrace.Target)
	}
	if f := e.Flow; f != nil {
		f.Source.Process, f.Destination.Process = short(f.Source.Process), short(f.Destination.Process)
	}
	if f := e.File; f != nil {
		if rng.IntN(2) == 0 {
			f.Op = model.FileChown
		} else {
			f.UID, f.GID = 0, 0
		}
	}
	if d := e.DNS; d != nil {
		for i := range d.Answers {
			d.Answers[i].TTL = d.Answers[i].TTL % (1 << 31 * time.Second) / time.Second * time.Second
		}
	}
}

func short(p *model.Process) *model.Process {
	if p == nil {
		return nil
	}
	return &model.Process{Key: p.Key, ExecID: p.Key.ExecID(Boot), Binary: p.Binary, Args: p.Args}
}

type filler struct {
	rng     *rand.Rand
	density float64
}

func (f filler) fill(v reflect.Value) {
	if f.rng.Float64() >= f.density {
		return
	}
	switch v.Type() {
	case reflect.TypeFor[time.Time]():
		v.Set(reflect.ValueOf(time.Unix(f.rng.Int64N(7e9), f.rng.Int64N(1e9)).UTC()))
		return
	case reflect.TypeFor[netip.AddrPort]():
		v.Set(reflect.ValueOf(netip.AddrPortFrom(f.addr(), uint16(1+f.rng.IntN(65535)))))
		return
	case reflect.TypeFor[model.Errno]():
		v.SetUint(1 + f.rng.Uint64N(200))
		return
	}
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			f.fill(v.Field(i))
		}
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		// A present part with nothing in it is a case of its own.
		f.fill(v.Elem())
	case reflect.Slice:
		if v.Type() == reflect.TypeFor[[]byte]() {
			v.SetBytes([]byte(f.text()))
			return
		}
		s := reflect.MakeSlice(v.Type(), 1+f.rng.IntN(3), 3)
		for i := range s.Len() {
			f.fill(s.Index(i))
		}
		v.Set(s)
	case reflect.Map:
		m := reflect.MakeMap(v.Type())
		for range 1 + f.rng.IntN(3) {
			key, value := reflect.New(v.Type().Key()).Elem(), reflect.New(v.Type().Elem()).Elem()
			f.fill(key)
			f.fill(value)
			m.SetMapIndex(key, value)
		}
		v.Set(m)
	case reflect.String:
		v.SetString(f.text())
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		v.SetUint(max(1, f.rng.Uint64()>>(64-v.Type().Bits())>>f.rng.IntN(v.Type().Bits())))
	case reflect.Int32, reflect.Int64:
		v.SetInt(max(1, f.rng.Int64()>>(64-v.Type().Bits())>>f.rng.IntN(v.Type().Bits()-1)))
	default:
		panic(fmt.Sprintf("modeltest: no value for a %s: teach it", v.Type()))
	}
}

// text is valid UTF-8, often with what printers have to escape.
func (f filler) text() string {
	parts := []string{"/usr/bin/", "a", "é", "日本", "\"", "\\", "\n", "\t", "\x00", "\x1b[2J", "\x7f", "\u0085", "\u2028",
		"\u202e", "\u2066", "\ufeff", "😀", `{"type":"exec"}`, "</script>", "\\x41", "\ufffd", " "}
	s := parts[f.rng.IntN(len(parts))]
	for range f.rng.IntN(5) {
		s += parts[f.rng.IntN(len(parts))]
	}
	return s
}

func (f filler) addr() netip.Addr {
	var b [16]byte
	for i := range b {
		b[i] = byte(f.rng.Uint32())
	}
	switch f.rng.IntN(4) {
	case 0:
		return netip.AddrFrom4([4]byte(b[:4]))
	case 1:
		return netip.AddrFrom16(b).WithZone("eth\"0")
	case 2:
		return netip.MustParseAddr("::ffff:192.0.2.1")
	default:
		return netip.AddrFrom16(b)
	}
}

// Exec is an ordinary exec event, as a host has them all day: for benchmarks and examples.
func Exec() *model.Event {
	parent := &model.Process{Key: model.ProcessKey{PID: 812, Start: 51_000_000_000, Exec: 3}, Binary: "/usr/bin/bash",
		Args: []string{"-bash"}}
	parent.ExecID = parent.Key.ExecID(Boot)
	key := model.ProcessKey{PID: 4242, Start: 91_234_567_890, Exec: 4}
	started := time.Date(2026, 3, 1, 12, 30, 15, 123456789, time.UTC)
	p := &model.Process{Key: key, ExecID: key.ExecID(Boot), ParentKey: parent.Key, ParentExecID: parent.ExecID,
		StartTime: started, Binary: "/usr/bin/curl", Args: []string{"curl", "-sS", "https://example.org/index.html"},
		CWD: "/home/alice", TTY: "pts/0",
		Creds: model.Creds{UID: 1000, GID: 1000, EUID: 1000, EGID: 1000, SUID: 1000, SGID: 1000, FSUID: 1000, FSGID: 1000,
			LoginUID: 1000, CapBounding: 0x1ffffffffff},
		Namespaces: model.Namespaces{UTS: 4026531838, IPC: 4026531839, Mnt: 4026531841, PID: 4026531836, Net: 4026531840,
			Cgroup: 4026531835, User: 4026531837, Time: 4026531834},
		File:     model.ExecFile{Inode: 131_234, Device: 8<<20 | 1, Mode: 0o100755},
		CgroupID: 5120,
		Workload: &model.Workload{Kind: model.WorkloadSession, Name: "session-3 (alice)", ID: "session-3.scope", User: "alice",
			Slice: "user-1000.slice", Cgroup: "/user.slice/user-1000.slice/session-3.scope"},
	}
	return &model.Event{Type: model.TypeExec, Time: started.Add(time.Millisecond), BootTime: key.Start + 1_000_000, Seq: 77,
		Key: key, TID: key.PID, Process: p, Parent: parent, Count: 1,
		Exec: &model.Exec{Previous: model.ProcessKey{PID: 4242, Start: key.Start, Exec: 3}.ExecID(Boot)}}
}
