// SPDX-License-Identifier: Apache-2.0

package l7_test

import (
	"strings"
	"testing"

	"github.com/vigie-io/vigie/internal/l7"
	"github.com/vigie-io/vigie/internal/l7/l7test"
	"github.com/vigie-io/vigie/internal/l7/protocols"
	"github.com/vigie-io/vigie/internal/model"
)

// listener is a connection with all protocols, and what it told.
type listener struct {
	*l7.Conn
	counts l7.Counts
	told   []*model.Request
}

func listen() *listener {
	l := &listener{}
	l.Conn = l7.NewConn(protocols.All(), &l.counts, func(r *model.Request, _ uint64) { l.told = append(l.told, r) })
	return l
}

const (
	ask    = "POST /a HTTP/1.1\r\nContent-Length: 4\r\n\r\nbody"
	answer = "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n0123456789"
)

func (l *listener) say(t uint64, sent bool, pos uint32, text string, size int) {
	l.Feed(l7.Chunk{Time: t, Sent: sent, Pos: pos, Data: []byte(text), Size: size, Begins: pos == 0})
}

func TestBytesThatWereSeenBeforeAreNotSeenTwice(t *testing.T) {
	l := listen()
	l.say(1, false, 0, ask[:10], 10) // a look that leaves them where they are
	l.say(2, false, 0, ask[:30], 30)
	l.say(3, false, 20, ask[20:], len(ask)-20)
	l.say(4, true, 0, answer, len(answer))
	if got, want := l7test.Text(l.told), "http POST version=HTTP/1.1 path=/a text=OK status=200 latency=3 duration=3 asked=4 answered=10\n"; got != want {
		t.Errorf("told %q, want %q", got, want)
	}
	if l.Role() != "server" || l.Protocol() != "http" || l.State() != l7.Understood {
		t.Errorf("role %s, protocol %s, state %v", l.Role(), l.Protocol(), l.State())
	}
}

func TestTheEndOfABodyIsKnownBeforeTheNextMessage(t *testing.T) {
	l := listen()
	l.say(10, true, 0, ask, len(ask))
	l.say(20, false, 0, answer[:42], 42) // and the rest by splice
	if len(l.told) != 0 || !l.Waits() {
		t.Fatalf("told %d, waits %v", len(l.told), l.Waits())
	}
	l.Passed(false, uint32(len(answer)), 35)
	if got, want := l7test.Text(l.told), "http POST version=HTTP/1.1 path=/a text=OK status=200 latency=10 duration=25 asked=4 answered=10\n"; got != want || l.Waits() {
		t.Errorf("told %q, want %q", got, want)
	}
}

func TestUnknownConnectionsAreGivenUp(t *testing.T) {
	for name, text := range map[string]string{"SSH": "SSH-2.0-OpenSSH_9.2\r\n", "zeros": strings.Repeat("\x00", 2000), "SMTP": "EHLO x\r\n", "memcached": "get a\r\n"} {
		l := listen()
		for i := range uint32(20) {
			l.say(uint64(2*i), true, i*uint32(len(text)), text, len(text))
			l.say(uint64(2*i)+1, false, i*uint32(len(text)), text, len(text))
		}
		if l.State() != l7.Ignored || l.counts.Unrecognised != 1 || len(l.told) != 0 {
			t.Errorf("%s: state %v, counted %+v, told %q", name, l.State(), l.counts, l7test.Text(l.told))
		}
	}
}

// What any two protocols have in common must not be taken for one of them.
func TestProtocolsAreToldApart(t *testing.T) {
	for name, text := range map[string]string{
		"http":       "GET / HTTP/1.1\r\n\r\n",
		"http2":      "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
		"postgresql": "\x00\x00\x00\x08\x04\xd2\x16\x2f",
		"redis":      "*1\r\n$4\r\nPING\r\n",
		"kafka":      "\x00\x00\x00\x12\x00\x12\x00\x03\x00\x00\x00\x01\x00\x06client\x00\x00",
		"mysql":      "\x0f\x00\x00\x00\x03select 1 from t",
	} {
		for _, p := range protocols.All() {
			if got, want := p.Detect(l7.Client, []byte(text), true) == l7.Yes, p.Name == name; got != want {
				t.Errorf("%s is %s: %v", name, p.Name, got)
			}
		}
	}
}
