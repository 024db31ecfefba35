// SPDX-License-Identifier: Apache-2.0

package hubble

import (
	"fmt"
	"net/netip"
	neturl "net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"

	fl "github.com/cilium/cilium/api/v1/flow"
)

// addresses adds the conditions on addresses.
func (b *builder) addresses(f *fl.FlowFilter) {
	for _, end := range []struct {
		field  string
		values []string
		addr   func(*fl.IP) string
	}{
		{"source_ip", f.GetSourceIp(), (*fl.IP).GetSource},
		{"source_ip_xlated", f.GetSourceIpXlated(), (*fl.IP).GetSourceXlated},
		{"destination_ip", f.GetDestinationIp(), (*fl.IP).GetDestination},
	} {
		each(b, end.field, end.values, parsePrefix, func(x *fl.Flow, want netip.Prefix) bool {
			is, err := netip.ParseAddr(end.addr(x.GetIP()))
			return err == nil && want.Contains(is)
		})
	}
	among(b, "ip_version", f.GetIpVersion(), func(x *fl.Flow) fl.IPVersion { return x.GetIP().GetIpVersion() })
}

// parsePrefix reads "10.0.0.1" and "10.0.0.0/8".
func parsePrefix(s string) (netip.Prefix, error) {
	if !strings.Contains(s, "/") {
		a, err := netip.ParseAddr(s)
		if err != nil {
			return netip.Prefix{}, fmt.Errorf("%q is no address: use 10.0.0.1 or 10.0.0.0/8", s)
		}
		a = a.Unmap().WithZone("")
		return netip.PrefixFrom(a, a.BitLen()), nil
	}
	p, err := netip.ParsePrefix(s)
	if err != nil {
		return netip.Prefix{}, fmt.Errorf("%q is no range of addresses: use 10.0.0.0/8", s)
	}
	return p.Masked(), nil
}

// layers adds the conditions on protocol, ports and TCP flags.
func (b *builder) layers(f *fl.FlowFilter) {
	each(b, "protocol", f.GetProtocol(), protocolCheck, func(x *fl.Flow, is func(*fl.Flow) bool) bool { return is(x) })
	each(b, "source_port", f.GetSourcePort(), parsePort, func(x *fl.Flow, want uint32) bool {
		source, _, ok := ports(x)
		return ok && source == want
	})
	each(b, "destination_port", f.GetDestinationPort(), parsePort, func(x *fl.Flow, want uint32) bool {
		_, destination, ok := ports(x)
		return ok && destination == want
	})
	either(b, "tcp_flags", f.GetTcpFlags(), func(x *fl.Flow, want *fl.TCPFlags) bool {
		is := x.GetL4().GetTCP().GetFlags()
		return is != nil && (is.GetFIN() || !want.GetFIN()) && (is.GetSYN() || !want.GetSYN()) && (is.GetRST() || !want.GetRST()) &&
			(is.GetPSH() || !want.GetPSH()) && (is.GetACK() || !want.GetACK()) && (is.GetURG() || !want.GetURG()) &&
			(is.GetECE() || !want.GetECE()) && (is.GetCWR() || !want.GetCWR()) && (is.GetNS() || !want.GetNS())
	})
}

func protocolCheck(name string) (func(*fl.Flow) bool, error) {
	switch strings.ToLower(name) {
	case "tcp":
		return func(x *fl.Flow) bool { return x.GetL4().GetTCP() != nil }, nil
	case "udp":
		return func(x *fl.Flow) bool { return x.GetL4().GetUDP() != nil }, nil
	case "icmp":
		return func(x *fl.Flow) bool { return x.GetL4().GetICMPv4() != nil || x.GetL4().GetICMPv6() != nil }, nil
	case "icmpv4":
		return func(x *fl.Flow) bool { return x.GetL4().GetICMPv4() != nil }, nil
	case "icmpv6":
		return func(x *fl.Flow) bool { return x.GetL4().GetICMPv6() != nil }, nil
	case "sctp":
		return func(x *fl.Flow) bool { return x.GetL4().GetSCTP() != nil }, nil
	case "vrrp":
		return func(x *fl.Flow) bool { return x.GetL4().GetVRRP() != nil }, nil
	case "igmp":
		return func(x *fl.Flow) bool { return x.GetL4().GetIGMP() != nil }, nil
	case "dns":
		return func(x *fl.Flow) bool { return x.GetL7().GetDns() != nil }, nil
	case "http":
		return func(x *fl.Flow) bool { return x.GetL7().GetHttp() != nil }, nil
	}
	return nil, fmt.Errorf("%q is not known: use tcp, udp, icmp, icmpv4, icmpv6, sctp, vrrp, igmp, dns or http", name)
}

func parsePort(s string) (uint32, error) {
	n, err := strconv.ParseUint(s, 10, 16)
	if err != nil {
		return 0, fmt.Errorf("%q is no port: use 0 to 65535", s)
	}
	return uint32(n), nil
}

func ports(x *fl.Flow) (source, destination uint32, ok bool) {
	switch l4 := x.GetL4(); {
	case l4.GetTCP() != nil:
		return l4.GetTCP().GetSourcePort(), l4.GetTCP().GetDestinationPort(), true
	case l4.GetUDP() != nil:
		return l4.GetUDP().GetSourcePort(), l4.GetUDP().GetDestinationPort(), true
	}
	return 0, 0, false
}

// seven adds the conditions on application protocols.
func (b *builder) seven(f *fl.FlowFilter) {
	http := func(x *fl.Flow) *fl.HTTP { return x.GetL7().GetHttp() }
	each(b, "http_status_code", f.GetHttpStatusCode(), statusPattern, func(x *fl.Flow, want string) bool {
		code := http(x).GetCode()
		return code != 0 && strings.HasPrefix(fmt.Sprintf("%03d", code), want)
	})
	either(b, "http_method", f.GetHttpMethod(), func(x *fl.Flow, want string) bool {
		return http(x).GetMethod() != "" && strings.EqualFold(http(x).GetMethod(), want)
	})
	each(b, "http_path", f.GetHttpPath(), pattern, func(x *fl.Flow, want *regexp.Regexp) bool {
		u, err := neturl.ParseRequestURI(http(x).GetUrl())
		return err == nil && want.MatchString(u.Path)
	})
	each(b, "http_url", f.GetHttpUrl(), pattern, func(x *fl.Flow, want *regexp.Regexp) bool {
		return http(x).GetUrl() != "" && want.MatchString(http(x).GetUrl())
	})
	either(b, "http_header", f.GetHttpHeader(), func(x *fl.Flow, want *fl.HTTPHeader) bool {
		return slices.ContainsFunc(http(x).GetHeaders(), func(is *fl.HTTPHeader) bool {
			return is.GetKey() == want.GetKey() && is.GetValue() == want.GetValue()
		})
	})
	each(b, "dns_query", f.GetDnsQuery(), pattern, func(x *fl.Flow, want *regexp.Regexp) bool {
		dns := x.GetL7().GetDns()
		return dns != nil && want.MatchString(dns.GetQuery())
	})
	if len(f.GetHttpStatusCode())+len(f.GetHttpMethod())+len(f.GetHttpPath())+len(f.GetHttpUrl())+len(f.GetHttpHeader()) > 0 &&
		len(f.GetEventType()) > 0 && !slices.ContainsFunc(f.GetEventType(), func(t *fl.EventTypeFilter) bool { return t.GetType() == eventL7 || t.GetType() == 0 }) {
		b.fail("event_type: none of the types is L7 (%d), which the HTTP fields need", eventL7)
	}
}

// pattern is a regular expression of RE2.
func pattern(s string) (*regexp.Regexp, error) { return regexp.Compile(s) }

// statusPattern is the beginning of the codes that "404", "40+" or "4+" stand for.
func statusPattern(s string) (string, error) {
	digits, open := strings.CutSuffix(s, "+")
	if n := len(digits); n == 0 || n > 3 || open == (n == 3) || digits[0] < '1' || digits[0] > '5' ||
		strings.Trim(digits, "0123456789") != "" {
		return "", fmt.Errorf("%q is no HTTP status: use 404, 40+ or 4+", s)
	}
	return digits, nil
}

// namespaced adds the condition that a name begins as one of a field's values says: NAMESPACE/NAME. Both may be empty;
// without the slash the namespace is Kubernetes' default, or none, which is what a workload outside of Kubernetes has.
func (b *builder) namespaced(field string, values []string, of func(*fl.Flow) (namespace, name string)) {
	type want struct {
		namespace, prefix string
		orNone            bool
	}
	parse := func(s string) (want, error) {
		if s == "" {
			return want{}, errEmpty
		}
		namespace, name, cut := strings.Cut(s, "/")
		if !cut {
			return want{"default", s, true}, nil
		}
		return want{namespace, name, false}, nil
	}
	each(b, field, values, parse, func(x *fl.Flow, w want) bool {
		namespace, name := of(x)
		if namespace == "" && name == "" || !strings.HasPrefix(name, w.prefix) {
			return false
		}
		return w.namespace == "" || w.namespace == namespace || w.orNone && namespace == ""
	})
}

// domains adds the condition that one of the DNS names of an end is like one of a field's values: "*.example.org".
func (b *builder) domains(field string, values []string, of func(*fl.Flow) []string) {
	compile := func(s string) (*regexp.Regexp, error) {
		re, err := domainPattern(s)
		if err != nil {
			return nil, err
		}
		return regexp.Compile(`\A` + re + `\z`)
	}
	each(b, field, values, compile, func(x *fl.Flow, want *regexp.Regexp) bool { return slices.ContainsFunc(of(x), want.MatchString) })
}

// nodeNames adds the condition on the host: NODE or CLUSTER/NODE, each with stars. The agent knows no cluster, so its
// cluster is Cilium's "default".
func (b *builder) nodeNames(values []string) {
	compile := func(s string) (*regexp.Regexp, error) {
		cluster, node, cut := strings.Cut(s, "/")
		if !cut {
			cluster, node = "", s
			if s == "" {
				return nil, errEmpty
			}
		}
		whole := `\A`
		for i, part := range []string{cluster, node} {
			re := `[-_.0-9a-z]+`
			if part != "" {
				var err error
				if re, err = domainPattern(part); err != nil {
					return nil, err
				}
			}
			whole += []string{"", "/"}[i] + re
		}
		return regexp.Compile(whole + `\z`)
	}
	each(b, "node_name", values, compile, func(x *fl.Flow, want *regexp.Regexp) bool {
		name := strings.ToLower(x.GetNodeName())
		if !strings.Contains(name, "/") {
			name = "default/" + name
		}
		return want.MatchString(name)
	})
}

// domainPattern is a regular expression for a domain name in which a star stands for any number of the characters of names.
func domainPattern(s string) (string, error) {
	name := strings.ToLower(strings.TrimSuffix(strings.TrimSpace(s), "."))
	if name == "" || strings.HasSuffix(name, ".") {
		return "", fmt.Errorf("%q is no domain name", s)
	}
	var b strings.Builder
	for _, r := range name {
		switch {
		case r == '*':
			b.WriteString(`[-_.0-9a-z]*`)
		case r == '.' || r == '-' || r == '_' || r >= '0' && r <= '9' || r >= 'a' && r <= 'z':
			b.WriteString(regexp.QuoteMeta(string(r)))
		default:
			return "", fmt.Errorf("%q: %q is no character of a domain name", s, r)
		}
	}
	return b.String(), nil
}
