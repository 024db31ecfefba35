// SPDX-License-Identifier: Apache-2.0

package http1

import (
	"fmt"
	"strings"
	"testing"

	"github.com/vigie-io/vigie/internal/l7"
	"github.com/vigie-io/vigie/internal/l7/l7test"
	"github.com/vigie-io/vigie/internal/model"
)

const ok = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"

func conversations() map[string]struct {
	turns []l7test.Said
	want  string
} {
	type c = struct {
		turns []l7test.Said
		want  string
	}
	return map[string]c{
		"one": {[]l7test.Said{l7test.C("GET /a/12?q=secret HTTP/1.1\r\nHost: u:p@h:80\r\ntraceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01\r\n\r\n"), l7test.S(ok)},
			"http GET version=HTTP/1.1 path=/a/{id} host=h:80 text=OK trace=4bf92f3577b34da6a3ce929d0e0e4736 parent=00f067aa0ba902b7 status=200 latency=1000 duration=1000 answered=2 sampled\n"},
		"pipelined": {[]l7test.Said{l7test.C("POST /x HTTP/1.1\r\nContent-Length: 3\r\n\r\nabcGET /y HTTP/1.1\n\nHEAD /z HTTP/1.1\r\n\r\n"),
			l7test.S(ok + "HTTP/1.1 404 nope\r\nTransfer-Encoding: chunked\r\n\r\n3;x=y\r\nabc\r\n0\r\nTrailer: x\r\n\r\n" + "HTTP/1.1 500 \r\nContent-Length: 10\r\n\r\n")},
			"http POST version=HTTP/1.1 path=/x text=OK status=200 latency=1000 duration=1000 asked=3 answered=2\n" +
				"http GET version=HTTP/1.1 path=/y text=Not Found status=404 latency=1000 duration=1000 answered=3 failed\n" +
				"http HEAD version=HTTP/1.1 path=/z text=Internal Server Error status=500 latency=1000 duration=1000 failed\n"},
		"continue": {[]l7test.Said{l7test.C("PUT /x HTTP/1.1\r\nTransfer-Encoding: chunked\r\nExpect: 100-continue\r\n\r\n"), l7test.S("HTTP/1.1 100 Continue\r\n\r\n"),
			l7test.C("4\r\nGET \r\n0\r\n\r\n"), l7test.S("HTTP/1.1 204 No Content\r\n\r\n")},
			"http PUT version=HTTP/1.1 path=/x text=No Content status=204 latency=3000 duration=3000 asked=4\n"},
		"until close": {[]l7test.Said{l7test.C("GET http://u:p@host/x?y HTTP/1.0\r\n\r\n"), l7test.S("HTTP/1.0 200 OK\r\n\r\nHTTP/1.1 500 x\r\n\r\n")},
			"http GET version=HTTP/1.0 path=/x host=host text=OK status=200 latency=1000 duration=2000\n"},
		"no answer": {[]l7test.Said{l7test.C("GET / HTTP/1.1\r\n\r\n"), l7test.S(ok), l7test.C("GET /late HTTP/1.1\r\n\r\n")},
			"http GET version=HTTP/1.1 path=/ text=OK status=200 latency=1000 duration=1000 answered=2\nhttp GET version=HTTP/1.1 path=/late duration=1000 no-answer\n"},
		"tunnel": {[]l7test.Said{l7test.C("CONNECT db:5432 HTTP/1.1\r\n\r\n"), l7test.S("HTTP/1.1 200 yes\r\n\r\n"), l7test.C("GET /inside HTTP/1.1\r\n\r\n"), l7test.S(ok)},
			"http CONNECT version=HTTP/1.1 host=db:5432 text=OK status=200 latency=1000 duration=1000\n"},
		"upgrade": {[]l7test.Said{l7test.C("GET /ws HTTP/1.1\r\nUpgrade: websocket\r\n\r\n"), l7test.S("HTTP/1.1 101 Switching Protocols\r\n\r\n\x81\x02hi"), l7test.C("\x81\x00")},
			"http GET version=HTTP/1.1 path=/ws text=Switching Protocols status=101 latency=1000 duration=1000\n"},
		"header of 64 KiB": {[]l7test.Said{l7test.C("GET /big HTTP/1.1\r\nCookie: " + strings.Repeat("a", 64<<10) + "\r\nHost: h\r\n\r\n"), l7test.S(ok)},
			"http GET version=HTTP/1.1 path=/big host=h text=OK status=200 latency=1000 duration=1000 answered=2\n"},
	}
}

func TestRequestsHoweverTheyAreCut(t *testing.T) {
	for name, c := range conversations() {
		t.Run(name, func(t *testing.T) { l7test.Splits(t, Protocol(), c.want, c.turns...) })
	}
}

// Where two readers would disagree on where the first request ends, what is hidden in its body is never told.
func TestSmuggledRequestsAreNotTold(t *testing.T) {
	const hidden = "GET /hidden HTTP/1.1\r\nHost: h\r\n\r\n"
	for name, headers := range map[string]string{
		"length and chunks":      "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
		"chunks and length":      "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
		"two lengths":            "Content-Length: 5\r\nContent-Length: 0\r\n",
		"list of lengths":        "Content-Length: 5, 0\r\n",
		"signed length":          "Content-Length: +5\r\n",
		"huge length":            "Content-Length: 99999999999999999999999\r\n",
		"folded length":          "Content-Length: 5\r\n 0\r\n",
		"folded coding":          "Transfer-Encoding:\r\n chunked\r\n",
		"space before the colon": "Content-Length : 0\r\n",
		"chunked is not last":    "Transfer-Encoding: chunked, identity\r\n",
		"two codings":            "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			got := l7test.Play(Protocol(), l7test.C("POST /seen HTTP/1.1\r\n"+headers+"\r\n0\r\n\r\n"+hidden), l7test.S(ok), l7test.C("GET /next HTTP/1.1\r\n\r\n"), l7test.S(ok))
			if strings.Contains(got, "hidden") || !strings.Contains(got, "/seen") || !strings.Contains(got, "/next") {
				t.Errorf("told:\n%s", got)
			}
		})
	}
}

func TestBodiesThatAreNotCaptured(t *testing.T) {
	p := l7test.Player{Protocols: []l7.Protocol{Protocol()}, Prefix: 80}
	body := strings.Repeat("GET /hidden HTTP/1.1\r\n\r\n", 100)
	p.Say(l7test.C(fmt.Sprintf("POST /a HTTP/1.1\r\nContent-Length: %d\r\n\r\n%s", len(body), body)), 30, 100, 500)
	p.Say(l7test.S(fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(body), body)))
	p.Say(l7test.C("POST /b HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n60\r\n" + body)) // where it ends is not seen
	p.Say(l7test.S("HTTP/1.1 200 OK\r\nX: " + strings.Repeat("x", 200) + "\r\n\r\n"))      // nor where the headers do
	p.Say(l7test.C("GET /c HTTP/1.1\r\n\r\n"))
	p.Say(l7test.S(ok))
	want := "http POST version=HTTP/1.1 path=/a text=OK status=200 latency=1000 duration=1000 asked=2400 answered=2400\n" +
		"http POST version=HTTP/1.1 path=/b text=OK status=200 latency=1000\n" +
		"http GET version=HTTP/1.1 path=/c text=OK status=200 latency=1000 duration=1000 answered=2\n"
	if got := l7test.Text(p.End()); got != want {
		t.Errorf("got:\n%swant:\n%s", got, want)
	}
}

func TestJoinedInTheMiddle(t *testing.T) {
	p := l7test.Player{Protocols: []l7.Protocol{Protocol()}, Joined: true}
	p.Say(l7test.S("the rest of an answer"))
	p.Say(l7test.C("of a body"))
	p.Say(l7test.S(ok))
	p.Say(l7test.C("GET /x HTTP/1.1\r\n\r\n"))
	p.Say(l7test.S(ok))
	if got, want := l7test.Text(p.End()), "http GET version=HTTP/1.1 path=/x text=OK status=200 latency=1000 duration=1000 answered=2\n"; got != want {
		t.Errorf("got:\n%swant:\n%s", got, want)
	}
}

func TestWhatIsNotHTTPIsCountedAndNotTold(t *testing.T) {
	for text, wrong := range map[string]uint64{"GET lost\r\nSSH-2.0-x\r\n": 0, "GET / HTTP/1.1\r\n\r\n": 1} {
		p := l7test.Player{Protocols: []l7.Protocol{Protocol()}}
		for range 10 {
			p.Say(l7test.C(text))
			p.Say(l7test.S("+OK not at all\r\n"))
		}
		if got := l7test.Text(p.End()); got != "" || p.Counts.Wrong != wrong || p.Counts.Unrecognised != 1-wrong {
			t.Errorf("%q: told %q, counted %+v", text, got, p.Counts)
		}
		if p.Conn().State() != l7.Ignored {
			t.Errorf("%q: state %v", text, p.Conn().State())
		}
	}
}

func TestAConnectionHoldsLittle(t *testing.T) {
	l7test.Memory(t, Protocol(), func(p *l7test.Player) {
		for range 2 * l7.MaxPending { // questions that nobody answers
			p.Say(l7test.C("GET /" + strings.Repeat("aB/", 80) + " HTTP/1.1\r\nHost: " + strings.Repeat("h", 1000) + "\r\n\r\n"))
		}
	})
	l7test.Memory(t, Protocol(), func(p *l7test.Player) {
		p.Say(l7test.C("GET /x HTTP/1.1\r\nCookie: " + strings.Repeat("a", 64<<10)))
		p.Say(l7test.S("HTTP/1.1 200 OK\r\nSet-Cookie: " + strings.Repeat("a", 64<<10)))
	})
}

func FuzzHTTP1(f *testing.F) {
	var seeds [][]l7test.Said
	for _, c := range conversations() {
		seeds = append(seeds, c.turns)
	}
	for _, h := range []string{"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", "Content-Length: 5\r\nContent-Length: 0\r\n", "Transfer-Encoding:\r\n chunked\r\n"} {
		seeds = append(seeds, []l7test.Said{l7test.C("POST / HTTP/1.1\r\n" + h + "\r\n0\r\n\r\nGET /h HTTP/1.1\n\n"), l7test.S(ok + ok)})
	}
	l7test.Fuzz(f, Protocol(), func(t *testing.T, r *model.Request) {
		if strings.ContainsAny(r.Path, "?#") || strings.Contains(r.Host, "@") || knownMethod([]byte(r.Method)) == "" || !r.NoAnswer && r.Status < 100 {
			t.Errorf("cannot be: %+v", r)
		}
	}, seeds...)
}

func BenchmarkRequest(b *testing.B) {
	request := []byte("GET /api/v1/orders/4711/items?page=2 HTTP/1.1\r\nHost: shop.example.org\r\nUser-Agent: Mozilla/5.0 (X11; Linux x86_64)\r\n" +
		"Accept: application/json\r\nAccept-Encoding: gzip, deflate, br\r\nAccept-Language: en\r\nCookie: session=0123456789abcdef0123456789abcdef\r\n" +
		"traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01\r\nConnection: keep-alive\r\n\r\n")
	answer := []byte("HTTP/1.1 200 OK\r\nServer: nginx\r\nDate: Thu, 26 Nov 2026 22:00:00 GMT\r\nContent-Type: application/json\r\nContent-Length: 600\r\n" +
		"Connection: keep-alive\r\nVary: Accept-Encoding\r\n\r\n" + strings.Repeat("x", 600))
	n := 0
	var counts l7.Counts
	c := l7.NewConn([]l7.Protocol{Protocol()}, &counts, func(*model.Request, uint64) { n++ })
	var sent, received uint32
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		c.Feed(l7.Chunk{Time: uint64(i), Sent: true, Pos: sent, Data: request, Size: len(request)})
		sent += uint32(len(request))
		c.Feed(l7.Chunk{Time: uint64(i) + 1, Pos: received, Data: answer, Size: len(answer)})
		received += uint32(len(answer))
	}
	if n == 0 || counts != (l7.Counts{}) {
		b.Fatalf("%d requests, %+v", n, counts)
	}
}
