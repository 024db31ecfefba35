// SPDX-License-Identifier: Apache-2.0

package http2

import (
	"bytes"
	"encoding/binary"
	"strings"
	"testing"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/vigie-io/vigie/internal/l7"
	"github.com/vigie-io/vigie/internal/l7/l7test"
	"github.com/vigie-io/vigie/internal/model"
)

// writer writes the frames of one side.
type writer struct {
	bytes.Buffer
	framer *http2.Framer
	table  *hpack.Encoder
	block  bytes.Buffer
}

func newWriter() *writer {
	w := &writer{}
	w.framer, w.table = http2.NewFramer(&w.Buffer, nil), hpack.NewEncoder(&w.block)
	return w
}

// headers writes a block, in frames of at most 20 bytes when it is cut.
func (w *writer) headers(stream uint32, end, cut bool, fields ...string) {
	w.block.Reset()
	for i := 0; i < len(fields); i += 2 {
		_ = w.table.WriteField(hpack.HeaderField{Name: fields[i], Value: fields[i+1]})
	}
	block := bytes.Clone(w.block.Bytes())
	first := block
	if cut && len(block) > 20 {
		first = block[:20]
	}
	_ = w.framer.WriteHeaders(http2.HeadersFrameParam{StreamID: stream, BlockFragment: first, EndStream: end, EndHeaders: len(first) == len(block),
		PadLength: 7, Priority: http2.PriorityParam{Weight: 3}})
	for rest := block[len(first):]; len(rest) > 0; {
		n := min(20, len(rest))
		_ = w.framer.WriteContinuation(stream, n == len(rest), rest[:n])
		rest = rest[n:]
	}
}

func (w *writer) said(by l7.Side) l7test.Said {
	b := bytes.Clone(w.Bytes())
	w.Reset()
	return l7test.Said{By: by, Text: b}
}

// conversation is three requests whose answers overlap.
func conversation() (turns []l7test.Said, want string) {
	c, s := newWriter(), newWriter()
	c.WriteString(preface)
	_ = c.framer.WriteSettings(http2.Setting{ID: http2.SettingHeaderTableSize, Val: 8192})
	c.headers(1, true, false, ":method", "GET", ":path", "/orders/4711?secret=1", ":authority", "u@shop", "authorization", "Bearer secret",
		"traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00")
	c.headers(3, false, true, ":method", "POST", ":path", "/shop.v1.Cart/AddItem", ":authority", "shop", "content-type", "application/grpc+proto")
	_ = c.framer.WriteData(3, true, bytes.Repeat([]byte("secret"), 100))
	turns = append(turns, c.said(l7.Client))
	_ = s.framer.WriteSettings()
	_ = s.framer.WriteSettingsAck()
	_ = s.framer.WritePushPromise(http2.PushPromiseParam{StreamID: 1, PromiseID: 2, EndHeaders: true, BlockFragment: []byte{0x82}})
	s.headers(3, false, false, ":status", "200", "content-type", "application/grpc")
	s.headers(1, false, false, ":status", "404", "x-secret", strings.Repeat("s", 5000))
	_ = s.framer.WriteData(3, false, make([]byte, 12))
	_ = s.framer.WriteData(1, true, make([]byte, 9000))
	turns = append(turns, s.said(l7.Server))
	_ = c.framer.WriteWindowUpdate(0, 100)
	c.headers(5, true, false, ":method", "GET", ":path", "/late", ":authority", "shop")
	turns = append(turns, c.said(l7.Client))
	s.headers(3, true, true, "grpc-status", "5", "grpc-message", "secret")
	turns = append(turns, s.said(l7.Server))
	return turns, "http GET version=HTTP/2 path=/orders/{id} host=shop text=Not Found trace=4bf92f3577b34da6a3ce929d0e0e4736 parent=00f067aa0ba902b7 status=404 latency=1000 duration=1000 answered=9000 failed\n" +
		"grpc POST version=HTTP/2 path=/shop.v1.Cart/AddItem host=shop text=NOT_FOUND status=5 latency=1000 duration=3000 asked=600 answered=12 failed\n" +
		"http GET version=HTTP/2 path=/late host=shop duration=2000 no-answer\n"
}

func TestRequestsHoweverTheyAreCut(t *testing.T) {
	turns, want := conversation()
	l7test.Splits(t, Protocol(), want, turns...)
}

func TestWithoutAHeaderBlockNothingMoreIsTold(t *testing.T) {
	turns, _ := conversation()
	p := l7test.Player{Protocols: []l7.Protocol{Protocol()}}
	p.Say(turns[0])
	p.Skip(l7.Server, 40)
	for _, s := range turns[1:] {
		p.Say(s)
	}
	if got := l7test.Text(p.End()); got != "" || p.Counts.Gone != 1 {
		t.Errorf("told %q, counted %+v", got, p.Counts)
	}
}

// bomb is a block that refers again and again to one large field of the table.
func bomb(references int) []l7test.Said {
	c := newWriter()
	c.WriteString(preface)
	c.headers(1, false, false, ":method", "GET", ":path", "/", "x-large", strings.Repeat("a", 3800))
	_ = c.framer.WriteHeaders(http2.HeadersFrameParam{StreamID: 3, EndHeaders: true, BlockFragment: bytes.Repeat([]byte{0xbe}, references)})
	return []l7test.Said{c.said(l7.Client)}
}

func TestBombsEndTheConnection(t *testing.T) {
	p := l7test.Player{Protocols: []l7.Protocol{Protocol()}}
	p.Say(bomb(16000)[0])
	if got := l7test.Text(p.End()); got != "" || p.Counts.Wrong != 1 {
		t.Errorf("told %q, counted %+v", got, p.Counts)
	}
}

func TestAConnectionHoldsLittle(t *testing.T) {
	l7test.Memory(t, Protocol(), func(p *l7test.Player) {
		c, s := newWriter(), newWriter()
		c.WriteString(preface)
		_ = c.framer.WriteSettings(http2.Setting{ID: http2.SettingHeaderTableSize, Val: 1 << 30})
		_ = s.framer.WriteSettings(http2.Setting{ID: http2.SettingHeaderTableSize, Val: 1 << 30})
		c.table.SetMaxDynamicTableSizeLimit(maxTable)
		c.table.SetMaxDynamicTableSize(maxTable)
		for i := range uint32(3 * l7.MaxPending) {
			c.headers(2*i+1, true, false, ":method", strings.Repeat("M", 2000), ":path", "/"+strings.Repeat("aB/", 400), ":authority", strings.Repeat("h", 2000))
		}
		p.Say(s.said(l7.Server))
		p.Say(c.said(l7.Client))
		if p.Counts.Crowded != 2*l7.MaxPending {
			t.Fatalf("counted %+v", p.Counts)
		}
	})
	l7test.Memory(t, Protocol(), func(p *l7test.Player) { // a name that never ends
		b := binary.AppendUvarint([]byte{0x00, 0x7f}, 16000)
		c := newWriter()
		c.WriteString(preface)
		_ = c.framer.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: append(b, make([]byte, 15000)...)})
		p.Say(c.said(l7.Client))
	})
}

func FuzzHTTP2(f *testing.F) {
	turns, _ := conversation()
	l7test.Fuzz(f, Protocol(), func(t *testing.T, r *model.Request) {
		if strings.ContainsAny(r.Path, "?#") || strings.Contains(r.Host, "@") || r.Protocol != "http" && r.Protocol != "grpc" {
			t.Errorf("cannot be: %+v", r)
		}
	}, turns, bomb(100))
}
