// SPDX-License-Identifier: Apache-2.0

package dns

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"

	"github.com/vigie-io/vigie/internal/model"
	"github.com/vigie-io/vigie/internal/sensor/socket"
	"github.com/vigie-io/vigie/internal/testkit"
)

const askEnv = "VIGIE_TEST_ASK"

// The test binary, started with VIGIE_TEST_ASK, is the process that asks: a real child with its own sockets.
func TestMain(m *testing.M) {
	if how := os.Getenv(askEnv); how != "" {
		if err := ask(how, os.Args[1:]); err != nil {
			fmt.Fprintln(os.Stderr, "ask:", err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// ask asks by Go's resolver ("resolver": server, name), or with a message of its own ("raw": network,
// server, id, type, name), once or, with a further argument, without waiting for the answer.
func ask(how string, args []string) error {
	ctx, cancel := context.WithTimeout(context.Background(), testkit.Deadline)
	defer cancel()
	if how == "resolver" {
		r := &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, network, args[0])
		}}
		_, err := r.LookupHost(ctx, args[1])
		var dnsErr *net.DNSError
		if errors.As(err, &dnsErr) && dnsErr.IsNotFound {
			return nil
		}
		return err
	}
	id, err := strconv.ParseUint(args[2], 10, 16)
	if err != nil {
		return err
	}
	typ, err := strconv.ParseUint(args[3], 10, 16)
	if err != nil {
		return err
	}
	name, err := dnsmessage.NewName(args[4])
	if err != nil {
		return err
	}
	m := dnsmessage.Message{Header: dnsmessage.Header{ID: uint16(id), RecursionDesired: true}, Questions: []dnsmessage.Question{
		{Name: name, Type: dnsmessage.Type(typ), Class: dnsmessage.ClassINET}}}
	b, err := m.Pack()
	if err != nil {
		return err
	}
	c, err := new(net.Dialer).DialContext(ctx, args[0], args[1])
	if err != nil {
		return err
	}
	defer c.Close()
	if args[0] == "tcp" {
		b = framed(b)
	}
	if how == "twice" { // in one segment, with another id
		second := slices.Clone(b)
		second[3]++
		b = append(b, second...)
	}
	if _, err := c.Write(b); err != nil || len(args) > 5 {
		return err
	}
	deadline, _ := ctx.Deadline()
	if err := c.SetReadDeadline(deadline); err != nil {
		return err
	}
	_, err = io.ReadAtLeast(c, make([]byte, 2000), 4)
	return err
}

// start has a child ask, in the server's network namespace.
func (s *server) start(t *testing.T, how string, args ...string) *exec.Cmd {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(exe, args...)
	cmd.Env, cmd.Stderr = append(os.Environ(), askEnv+"="+how), os.Stderr
	s.ns.Do(t, cmd.Start)
	return cmd
}

func (s *server) ask(t *testing.T, how string, args ...string) (pid uint32) {
	t.Helper()
	cmd := s.start(t, how, args...)
	if err := cmd.Wait(); err != nil {
		t.Fatalf("the child that asks %q: %v", args, err)
	}
	return uint32(cmd.Process.Pid)
}

func asked(pid uint32, name, qtype string) func(*model.Event) bool {
	return func(e *model.Event) bool {
		return e.Type == model.TypeDNS && e.Key.PID == pid && e.DNS.Name == name && e.DNS.QType == qtype
	}
}

func start(t *testing.T, o Options) *testkit.Kernel {
	t.Helper()
	return testkit.StartSensor(t, socket.New(socket.Options{}), New(o))
}

func TestGoResolverIsSeen(t *testing.T) {
	k, s := start(t, Options{}), startServer(t)
	pid := s.ask(t, "resolver", "127.0.0.1:53", "host.test")
	for qtype, addr := range map[string]string{"A": "192.0.2.1", "AAAA": "2001:db8::1"} {
		d := k.Await(t, qtype, asked(pid, "host.test", qtype)).DNS
		want := []model.DNSAnswer{{Type: qtype, Data: addr, TTL: time.Minute}}
		if d.RCode != "NOERROR" || !slices.Equal(d.Answers, want) || d.Latency <= 0 || d.Protocol != "udp" || d.Timeout || d.Truncated ||
			d.Server != netip.MustParseAddrPort("127.0.0.1:53") {
			t.Errorf("%s is %+v", qtype, d)
		}
	}
	pid = s.ask(t, "resolver", "[::1]:53", "missing.test")
	k.Await(t, "the other question", asked(pid, "missing.test", "AAAA"))
	d := k.Await(t, "the name that does not exist", asked(pid, "missing.test", "A")).DNS
	if d.RCode != "NXDOMAIN" || d.Answers != nil || d.Timeout || d.Server != netip.MustParseAddrPort("[::1]:53") {
		t.Errorf("answer is %+v", d)
	}
	// The server on this host is no asker: each question is there once.
	all := k.Events(func(e *model.Event) bool { return e.Type == model.TypeDNS })
	if len(all) != 4 {
		t.Errorf("%d events, want 4: A and AAAA of two names", len(all))
	}
}

func TestRecordsAreShownAsText(t *testing.T) {
	k, s := start(t, Options{}), startServer(t)
	for _, c := range []struct {
		qtype dnsmessage.Type
		name  string
		want  []model.DNSAnswer
	}{
		{dnsmessage.TypeA, "alias.test", []model.DNSAnswer{{Type: "CNAME", Data: "real.test"}, {Type: "A", Data: "192.0.2.9"}}},
		{dnsmessage.TypePTR, "1.2.0.192.in-addr.arpa", []model.DNSAnswer{{Type: "PTR", Data: "target.test"}}},
		{dnsmessage.TypeMX, "test", []model.DNSAnswer{{Type: "MX", Data: "10 target.test"}}},
		{dnsmessage.TypeTXT, "txt.test", []model.DNSAnswer{{Type: "TXT", Data: `"v=1 \"x\"" "two\010"`}}},
		{dnsmessage.TypeSRV, "_x._tcp.test", []model.DNSAnswer{{Type: "SRV", Data: "1 2 443 target.test"}}},
		{dnsmessage.TypeHTTPS, "https.test", []model.DNSAnswer{{Type: "HTTPS", Data: "1 . alpn=h2,h3 ipv4hint=192.0.2.3"}}},
	} {
		// In capitals and with bytes that are not printable: names are shown in one form.
		pid := s.ask(t, "raw", "udp", "127.0.0.1:53", "1", strconv.Itoa(int(c.qtype)), strings.ToUpper(c.name)+".")
		d := k.Await(t, c.name, asked(pid, c.name, typeName(uint16(c.qtype)))).DNS
		for i := range c.want {
			c.want[i].TTL = time.Minute
		}
		if !slices.Equal(d.Answers, c.want) {
			t.Errorf("answers are %+v, want %+v", d.Answers, c.want)
		}
	}
	pid := s.ask(t, "raw", "udp", "127.0.0.1:53", "1", "1", "a\x1bb\xff c.test.")
	k.Await(t, "a name with strange bytes", asked(pid, `a\027b\255\032c.test`, "A"))
}

func TestUnansweredQuestionsTimeOut(t *testing.T) {
	k, s := start(t, Options{Timeout: 50 * time.Millisecond}), startServer(t)
	pid := s.ask(t, "raw", "udp", "127.0.0.1:53", "1", "1", "silent.test.", "go")
	d := k.Await(t, "the timeout", asked(pid, "silent.test", "A")).DNS
	if !d.Timeout || d.RCode != "" || d.Answers != nil || d.Latency != 0 || d.Server != netip.MustParseAddrPort("127.0.0.1:53") {
		t.Errorf("unanswered question is %+v", d)
	}
	// An answer that is no DNS answers nothing, and is counted.
	pid = s.ask(t, "raw", "udp", "127.0.0.1:53", "1", "1", "garbage.test.")
	if d := k.Await(t, "the timeout", asked(pid, "garbage.test", "A")).DNS; !d.Timeout {
		t.Errorf("question with a malformed answer is %+v", d)
	}
}

func TestMalformedAnswersAreCounted(t *testing.T) {
	sensor := New(Options{Timeout: 50 * time.Millisecond})
	k, s := testkit.StartSensor(t, sensor), startServer(t)
	pid := s.ask(t, "raw", "udp", "127.0.0.1:53", "1", "1", "garbage.test.")
	k.Await(t, "the timeout", asked(pid, "garbage.test", "A")) // also without the socket sensor's owners
	if n := sensor.malformed.Load(); n != 1 {
		t.Errorf("%d malformed messages are counted, want 1", n)
	}
}

func TestTruncatedAnswersAndTCP(t *testing.T) {
	k, s := start(t, Options{}), startServer(t)
	pid := s.ask(t, "raw", "udp", "127.0.0.1:53", "1", "1", "big.test.")
	if d := k.Await(t, "the answer with the TC bit", asked(pid, "big.test", "A")).DNS; !d.Truncated || d.RCode != "NOERROR" || d.Protocol != "udp" {
		t.Errorf("truncated answer is %+v", d)
	}
	// 70 answers of 16 bytes fit what is copied of a segment.
	pid = s.ask(t, "raw", "tcp", "[::1]:53", "1", "1", "big.test.")
	if d := k.Await(t, "the answer over TCP", asked(pid, "big.test", "A")).DNS; d.Truncated || len(d.Answers) != 70 || d.Protocol != "tcp" ||
		d.Answers[69].Data != "192.0.2.69" {
		t.Errorf("answer over TCP is %+v", d)
	}
	pid = s.ask(t, "twice", "tcp", "127.0.0.1:53", "1", "28", "host.test.")
	seen := 0
	k.Await(t, "both questions of a segment", func(e *model.Event) bool {
		if asked(pid, "host.test", "AAAA")(e) {
			seen++
		}
		return seen >= 2
	})
}

func TestSameQuestionOfTwoProcessesAtOnce(t *testing.T) {
	k, s := start(t, Options{}), startServer(t)
	one := s.start(t, "raw", "udp", "127.0.0.1:53", "7", "1", "both.test.")
	two := s.start(t, "raw", "udp", "127.0.0.1:53", "7", "1", "both.test.")
	for _, c := range []*exec.Cmd{one, two} {
		if err := c.Wait(); err != nil {
			t.Fatal(err)
		}
		pid := uint32(c.Process.Pid)
		if d := k.Await(t, "the answer of each", asked(pid, "both.test", "A")).DNS; len(d.Answers) != 1 || d.Timeout {
			t.Errorf("answer is %+v", d)
		}
	}
}

func TestFurtherPortsAreWatched(t *testing.T) {
	k, s := start(t, Options{Ports: []uint16{5353}}), newServer(t)
	s.listen(t, "127.0.0.1:5353")
	pid := s.ask(t, "raw", "udp", "127.0.0.1:5353", "1", "1", "host.test.")
	if d := k.Await(t, "the answer", asked(pid, "host.test", "A")).DNS; len(d.Answers) != 1 || d.Server.Port() != 5353 {
		t.Errorf("answer is %+v", d)
	}
}

// Docker's resolver is an address of the container's own loopback, which is translated to another port on the way out.
func TestQuestionsToATranslatedAddressAreSeen(t *testing.T) {
	nft, err := exec.LookPath("nft")
	if err != nil {
		t.Skip("needs nft (Debian package nftables) to translate addresses")
	}
	k, s := start(t, Options{}), newServer(t)
	s.listen(t, "127.0.0.11:40053")
	s.ns.Do(t, func() error {
		rules := exec.Command(nft, "-f", "-")
		rules.Stdin = strings.NewReader(`table ip nat {
			chain output { type nat hook output priority -100; ip daddr 127.0.0.11 udp dport 53 dnat to 127.0.0.11:40053; }
			chain postrouting { type nat hook postrouting priority 100; }
		}`)
		if out, err := rules.CombinedOutput(); err != nil {
			t.Skipf("needs a kernel with nf_tables and address translation: %s", out)
		}
		return nil
	})
	pid := s.ask(t, "raw", "udp", "127.0.0.11:53", "1", "1", "host.test.")
	d := k.Await(t, "the answer", asked(pid, "host.test", "A")).DNS
	if d.Timeout || len(d.Answers) != 1 || d.Server != netip.MustParseAddrPort("127.0.0.11:53") {
		t.Errorf("answer is %+v", d)
	}
}
