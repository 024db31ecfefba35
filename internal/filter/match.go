// SPDX-License-Identifier: Apache-2.0

package filter

import (
	"errors"
	"fmt"
	"net/netip"
	"regexp"
	"strconv"
	"strings"

	"github.com/vigie-io/vigie/internal/model"
)

// globKind says what the wildcards of a pattern may cross.
type globKind int

const (
	nameGlob globKind = iota // '*' takes anything
	pathGlob                 // '*' stays within a component, '**' crosses them; no '/' means the last component
)

// compileGlobs makes a function that reports whether one of the patterns matches all of a text. A
// backslash takes the next character as it is.
func compileGlobs(globs []string, kind globKind) (func(string) bool, error) {
	var matchers []func(string) bool
	for _, g := range globs {
		if g == "" {
			return nil, errors.New("is empty: leave it out to take everything")
		}
		m, err := compileGlob(g, kind)
		if err != nil {
			return nil, err
		}
		matchers = append(matchers, m)
	}
	if len(matchers) == 1 {
		return matchers[0], nil
	}
	return func(s string) bool {
		for _, m := range matchers {
			if m(s) {
				return true
			}
		}
		return false
	}, nil
}

func compileGlob(glob string, kind globKind) (func(string) bool, error) {
	last := kind == pathGlob && !strings.Contains(glob, "/") && !strings.HasPrefix(glob, "@")
	component := func(s string) string { return s }
	if last {
		component = func(s string) string { return s[strings.LastIndexByte(s, '/')+1:] }
	}
	if !strings.ContainsAny(glob, `*?\`) {
		return func(s string) bool { return component(s) == glob }, nil
	}
	var b strings.Builder
	b.WriteString(`(?s)\A(?:`)
	for i := 0; i < len(glob); i++ {
		switch {
		case glob[i] == '\\':
			if i++; i == len(glob) {
				return nil, fmt.Errorf("%q ends in a lone backslash: write two", glob)
			}
			b.WriteString(regexp.QuoteMeta(glob[i : i+1]))
		case kind == pathGlob && strings.HasPrefix(glob[i:], "**"):
			b.WriteString(`.*`)
			i++
		case glob[i] == '*' && kind == nameGlob:
			b.WriteString(`.*`)
		case glob[i] == '*':
			b.WriteString(`[^/]*`)
		case glob[i] == '?' && kind == nameGlob:
			b.WriteByte('.')
		case glob[i] == '?':
			b.WriteString(`[^/]`)
		default:
			b.WriteString(regexp.QuoteMeta(glob[i : i+1]))
		}
	}
	b.WriteString(`)\z`)
	re, err := regexp.Compile(b.String())
	if err != nil {
		return nil, fmt.Errorf("%q is no pattern of plain text, * and ?", glob)
	}
	return func(s string) bool { return re.MatchString(component(s)) }, nil
}

// endpoint is an address or a range of them, a port, or both.
type endpoint struct {
	prefix netip.Prefix // all addresses when not valid
	port   uint16       // all ports when 0
}

func parseEndpoint(s string) (endpoint, error) {
	var e endpoint
	addr := s
	if i := strings.LastIndexByte(s, ':'); i >= 0 && (i == 0 || s[i-1] == ']' || strings.IndexByte(s, ':') == i) {
		port, err := strconv.ParseUint(s[i+1:], 10, 16)
		if err != nil || port == 0 {
			return e, fmt.Errorf("%q: %q is no port: use 1 to 65535", s, s[i+1:])
		}
		addr, e.port = s[:i], uint16(port)
	}
	if len(addr) > 1 && addr[0] == '[' && addr[len(addr)-1] == ']' {
		addr = addr[1 : len(addr)-1]
	}
	if addr == "" && e.port != 0 {
		return e, nil
	}
	if a, err := netip.ParseAddr(addr); err == nil {
		a = a.Unmap().WithZone("")
		e.prefix = netip.PrefixFrom(a, a.BitLen())
		return e, nil
	}
	p, err := netip.ParsePrefix(addr)
	if err != nil {
		return e, fmt.Errorf("%q is no address: use 10.0.0.1, 10.0.0.0/8, 10.0.0.1:443, [2001:db8::1]:443 or :443; for DNS names use names", s)
	}
	e.prefix = p.Masked()
	return e, nil
}

// in reports whether e has the endpoint: at either end of a socket, a flow or a request, as DNS server, in a DNS answer.
func (w endpoint) in(e *model.Event) bool {
	if s := e.Socket; s != nil {
		return w.is(s.Remote) || w.is(s.Local)
	}
	if f := e.Flow; f != nil {
		return w.is(f.Source.Address) || w.is(f.Destination.Address) || f.Service != nil && w.is(f.Service.Address)
	}
	if r := e.Request; r != nil {
		return w.is(r.Remote) || w.is(r.Local)
	}
	if e.DNS == nil {
		return false
	}
	if w.is(e.DNS.Server) {
		return true
	}
	if w.port != 0 {
		return false
	}
	for i := range e.DNS.Answers {
		if a, err := netip.ParseAddr(e.DNS.Answers[i].Data); err == nil && w.prefix.Contains(a.Unmap()) {
			return true
		}
	}
	return false
}

func (w endpoint) is(ap netip.AddrPort) bool {
	if w.port != 0 && ap.Port() != w.port {
		return false
	}
	return !w.prefix.IsValid() || w.prefix.Contains(ap.Addr().Unmap().WithZone(""))
}
