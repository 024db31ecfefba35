// SPDX-License-Identifier: Apache-2.0

package dns

import (
	"bytes"
	"encoding/hex"
	"strings"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/net/dns/dnsmessage"

	"github.com/vigie-io/vigie/internal/kernel"
	"github.com/vigie-io/vigie/internal/model"
	"github.com/vigie-io/vigie/internal/pipeline"
)

// packed is a message; answers are A records of the name.
func packed(tb testing.TB, id uint16, name string, response bool, answers int) []byte {
	tb.Helper()
	n, err := dnsmessage.NewName(name)
	if err != nil {
		tb.Fatal(err)
	}
	m := dnsmessage.Message{Header: dnsmessage.Header{ID: id, Response: response}, Questions: []dnsmessage.Question{
		{Name: n, Type: dnsmessage.TypeA, Class: dnsmessage.ClassINET}}}
	for i := range answers {
		m.Answers = append(m.Answers, dnsmessage.Resource{Header: dnsmessage.ResourceHeader{Name: n, Class: dnsmessage.ClassINET, TTL: 1},
			Body: &dnsmessage.AResource{A: [4]byte{192, 0, 2, byte(i)}}})
	}
	b, err := m.Pack()
	if err != nil {
		tb.Fatal(err)
	}
	return b
}

// record is a record as dns.bpf.c writes it, aligned as the rings align it, with room after the payload.
func record(what uint16, cookie, at uint64, payload []byte) kernel.Record {
	d := bpfVgDns{H: bpfVgHeader{Type: uint16(kernel.RecordDNS), Count: 1, Time: at, Pid: 9}, Cookie: cookie, What: what,
		Len: uint16(len(payload)), Total: uint16(len(payload)), ServerPort: kernel.NetworkOrder(53)}
	b := append(unsafe.Slice((*byte)(unsafe.Pointer(&d)), unsafe.Sizeof(d)), payload...)
	words := make([]uint64, len(b)/8+16)
	out := unsafe.Slice((*byte)(unsafe.Pointer(&words[0])), len(words)*8)
	copy(out, b)
	return out
}

// take decodes a record, as the agent does.
func take(tb testing.TB, s *Sensor, r kernel.Record) (*model.Event, bool) {
	tb.Helper()
	h := r.Header()
	ev := &model.Event{BootTime: h.Time, Key: h.Key(), TID: h.Tid, Count: h.Count}
	keep, err := s.decode(r, ev)
	if err != nil {
		tb.Fatal(err)
	}
	return ev, keep
}

func TestHostileMessagesAreRefused(t *testing.T) {
	answer := packed(t, 1, "a.test.", true, 1)
	for name, b := range map[string]string{
		"empty":                      "",
		"half a header":              "000180000001",
		"no question":                "000180000000000000000000",
		"a name that points to self": "000180000001000000000000c00c00010001",
		"a name that points ahead":   "000180000001000000000000c0ff00010001",
		"names that point in a ring": "000180000001000000000000c00ec00c00010001",
		"a label that is too long":   "0001800000010000000000007f41",
		"an answer that is missing":  hex.EncodeToString(answer[:len(answer)-6]),
		"a reserved label":           "00018000000100000000000080410000010001",
	} {
		raw, err := hex.DecodeString(b)
		if err != nil {
			t.Fatal(err)
		}
		if m, err := parse(raw, false); err == nil {
			t.Errorf("%s: read as %+v", name, m)
		}
	}
	// Cut short, what is whole counts.
	m, err := parse(packed(t, 1, "a.test.", true, 3)[:len(answer)+3], true)
	if err != nil || !m.truncated || len(m.answers) != 1 {
		t.Errorf("cut message is %+v, %v", m, err)
	}
}

func TestExtendedResponseCode(t *testing.T) {
	b := packed(t, 1, "a.test.", true, 0)
	b[11] = 1                                                       // one additional record:
	b = append(b, 0, 0, 41, 4, 208, 1 /* BADVERS */, 0, 0, 0, 0, 0) // OPT
	m, err := parse(b, false)
	if err != nil || rcodeName(m.rcode) != "BADVERS" {
		t.Errorf("response code is %s, %v", rcodeName(m.rcode), err)
	}
}

func TestOpenQuestionsAreBoundedAndCounted(t *testing.T) {
	losses := new(pipeline.Losses)
	s := New(Options{Pending: 10, Losses: losses})
	for i := range 15 {
		take(t, s, record(0, uint64(i), 1, packed(t, 1, "a.test.", false, 0)))
		take(t, s, record(0, uint64(i), 2, packed(t, 1, "a.test.", false, 0))) // asked again
	}
	if n := losses.Counter("dns", "too many open questions").Load(); n != 5 || s.pending.byAge.Len() != 10 || len(s.pending.byKey) != 10 {
		t.Errorf("%d gave way, %d are open, want 5 and 10", n, s.pending.byAge.Len())
	}
	if _, keep := take(t, s, record(whatAnswer, 0, 3, packed(t, 1, "A.TEST.", true, 1))); keep {
		t.Error("an answer to a question that gave way is an event")
	}
	if n := losses.Counter("dns", "answer without question").Load(); n != 1 {
		t.Errorf("%d answers without question are counted, want 1", n)
	}
	ev, keep := take(t, s, record(whatAnswer, 14, 1001, packed(t, 1, "A.TEST.", true, 1)))
	if !keep || ev.DNS.Latency != time.Microsecond || ev.Key.PID != 9 {
		t.Errorf("answer is %+v, %v", ev.DNS, keep)
	}
	var left int
	if err := s.Flush(func(e *model.Event) {
		if e.DNS.Timeout {
			left++
		}
	}, true); err != nil || left != 9 {
		t.Errorf("the last flush gave out %d questions, want 9: %v", left, err)
	}
}

func TestSegmentsOfTCP(t *testing.T) {
	losses := new(pipeline.Losses)
	s := New(Options{Losses: losses})
	question, answer := framed(packed(t, 1, "a.test.", false, 0)), framed(packed(t, 1, "a.test.", true, 40))
	take(t, s, record(whatTCP, 1, 1, question))
	ev, keep := take(t, s, record(whatTCP|whatAnswer, 1, 2, answer[:200]))
	if !keep || !ev.DNS.Truncated || len(ev.DNS.Answers) == 0 || len(ev.DNS.Answers) >= 40 {
		t.Errorf("the first segment of an answer is %+v, %v", ev.DNS, keep)
	}
	if _, keep = take(t, s, record(whatTCP|whatAnswer, 1, 3, answer[200:])); keep {
		t.Error("the second segment of an answer is an event")
	}
	if n := losses.Counter("dns", "message in more than one segment").Load(); n == 0 {
		t.Error("no split message was counted")
	}
}

func FuzzDecode(f *testing.F) {
	f.Add(uint16(0), packed(f, 1, "a.test.", false, 0))
	f.Add(uint16(whatAnswer), packed(f, 1, "a.test.", true, 2))
	f.Add(uint16(whatAnswer|whatTCP), framed(packed(f, 1, "a\xff.test.", true, 2)))
	f.Fuzz(func(t *testing.T, what uint16, payload []byte) {
		if len(payload) > 1234 {
			return
		}
		s := New(Options{Pending: 4})
		asked := bytes.Clone(payload)
		if at := 2 + int(what&whatTCP); len(asked) > at {
			asked[at] &^= 0x80 // the same as a question, so that there is one to answer
		}
		take(t, s, record(what&^whatAnswer, 1, 1, asked))
		ev, keep := take(t, s, record(what, 1, 2, payload))
		if !keep {
			return
		}
		for _, text := range append([]string{ev.DNS.Name}, texts(ev.DNS.Answers)...) {
			if strings.ContainsFunc(text, func(r rune) bool { return r < ' ' || r > '~' }) {
				t.Errorf("a name that is not printable: %q", text)
			}
		}
	})
}

func texts(answers []model.DNSAnswer) (out []string) {
	for _, a := range answers {
		out = append(out, a.Type, a.Data)
	}
	return out
}
