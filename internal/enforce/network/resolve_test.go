// SPDX-License-Identifier: Apache-2.0

package network

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"sync"

	"golang.org/x/net/dns/dnsmessage"
	"golang.org/x/sys/unix"
)

func writeSysctl(name, value string) error {
	return os.WriteFile("/proc/sys/"+name, []byte(value), 0)
}

// query is a question for the address of a name, of IPv4 or IPv6 by what is asked for.
func query(name string, typ dnsmessage.Type) ([]byte, error) {
	n, err := dnsmessage.NewName(name + ".")
	if err != nil {
		return nil, err
	}
	m := dnsmessage.Message{Header: dnsmessage.Header{ID: 7, RecursionDesired: true},
		Questions: []dnsmessage.Question{{Name: n, Type: typ, Class: dnsmessage.ClassINET}}}
	return m.Pack()
}

// resolve asks for a name and connects to the address of the answer the moment it has it.
func (d *deeds) resolve(server, name, port string, n int) (string, error) {
	for i := range n {
		question := name
		if n > 1 {
			question = fmt.Sprintf("n%d.%s", i, name)
		}
		addr, err := d.lookup(server, question, i%2 == 1)
		if err != nil {
			return "", fmt.Errorf("ask for %s: %w", question, err)
		}
		fd, err := open("udp4") // refused or not, nothing has to answer
		if err != nil {
			return "", err
		}
		err = unix.Connect(fd, sockaddr("udp4", addr.String()+":"+port))
		unix.Close(fd)
		if err != nil {
			return "", fmt.Errorf("connect %d to %s: %w", i, addr, err)
		}
	}
	return "", nil
}

func (d *deeds) ask(server, name string) (string, error) {
	addr, err := d.lookup(server, name, false)
	return addr.String(), err
}

// lookup asks from a socket of its own, connected or not: programs do both.
func (d *deeds) lookup(server, name string, connected bool) (netip.Addr, error) {
	fd, err := open("udp4")
	if err != nil {
		return netip.Addr{}, err
	}
	defer unix.Close(fd)
	_ = unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 5})
	q, err := query(name, dnsmessage.TypeA)
	if err != nil {
		return netip.Addr{}, err
	}
	to := sockaddr("udp4", server)
	if connected {
		if err := unix.Connect(fd, to); err != nil {
			return netip.Addr{}, err
		}
		to = nil
	}
	if err := unix.Sendto(fd, q, 0, to); err != nil {
		return netip.Addr{}, err
	}
	buf := make([]byte, 4096)
	got, _, err := unix.Recvfrom(fd, buf, 0)
	if err != nil {
		return netip.Addr{}, err
	}
	var m dnsmessage.Message
	if err := m.Unpack(buf[:got]); err != nil {
		return netip.Addr{}, err
	}
	for _, a := range m.Answers {
		if r, ok := a.Body.(*dnsmessage.AResource); ok {
			return netip.AddrFrom4(r.A), nil
		}
	}
	return netip.Addr{}, errors.New("no address in the answer")
}

// resolver is a name server in the world's namespace.
type resolver struct {
	mu     sync.Mutex
	answer func(name string) []dnsmessage.Resource
	raw    []byte // sent whatever is asked, when it is not nil
}

func (w *world) resolver(addr string) *resolver {
	w.t.Helper()
	r := &resolver{}
	fd, _ := w.bound("udp4", addr)
	var serving sync.WaitGroup
	w.t.Cleanup(func() {
		_ = unix.Shutdown(fd, unix.SHUT_RDWR)
		serving.Wait()
		unix.Close(fd)
	})
	serving.Go(func() {
		buf := make([]byte, 4096)
		for {
			n, from, err := unix.Recvfrom(fd, buf, 0)
			if err != nil || (n == 0 && from == nil) {
				return
			}
			if b := r.reply(buf[:n]); b != nil {
				_ = unix.Sendto(fd, b, 0, from)
			}
		}
	})
	return r
}

func (r *resolver) reply(question []byte) []byte {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.raw != nil {
		return r.raw
	}
	var m dnsmessage.Message
	if m.Unpack(question) != nil || len(m.Questions) != 1 {
		return nil
	}
	m.Response = true
	m.Answers = r.answer(m.Questions[0].Name.String())
	b, err := m.Pack()
	if err != nil {
		return nil
	}
	return b
}

func (r *resolver) set(answer func(name string) []dnsmessage.Resource) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.answer, r.raw = answer, nil
}

func (r *resolver) setRaw(b []byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.raw = b
}

// address is an A or AAAA record.
func address(name, addr string, ttl uint32) dnsmessage.Resource {
	a := netip.MustParseAddr(addr)
	h := dnsmessage.ResourceHeader{Name: dnsmessage.MustNewName(name), Class: dnsmessage.ClassINET, TTL: ttl}
	if a.Is4() {
		return dnsmessage.Resource{Header: h, Body: &dnsmessage.AResource{A: a.As4()}}
	}
	return dnsmessage.Resource{Header: h, Body: &dnsmessage.AAAAResource{AAAA: a.As16()}}
}

// alias is a CNAME record.
func alias(name, of string) dnsmessage.Resource {
	return dnsmessage.Resource{Header: dnsmessage.ResourceHeader{Name: dnsmessage.MustNewName(name), Class: dnsmessage.ClassINET, TTL: 5},
		Body: &dnsmessage.CNAMEResource{CNAME: dnsmessage.MustNewName(of)}}
}
