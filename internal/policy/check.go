// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"fmt"
	"net/netip"
	"regexp"
	"strconv"
	"strings"
	"unicode"

	"github.com/vigie-io/vigie/internal/model"
)

// The checks of single texts. Each says what is wrong and what to write instead, or nothing.

// badText is for every text of a policy: what it seems to say is what it says.
func badText(s string) string {
	for _, r := range s {
		switch {
		case unicode.Is(unicode.Bidi_Control, r), r == '\u200b', r == '\u200c', r == '\u200d', r == '\u2060', r == '\ufeff':
			return fmt.Sprintf("has the invisible character U+%04X: remove it", r)
		case unicode.IsControl(r), r == '\u2028', r == '\u2029':
			return fmt.Sprintf("has the control character U+%04X: remove it", r)
		case r == unicode.ReplacementChar:
			return "is not UTF-8: write ? for each byte that is no text"
		}
	}
	return ""
}

// maxPath is the kernel's PATH_MAX.
const maxPath = 4096

func badPath(s string) string {
	switch {
	case s == "":
		return "is empty: write an absolute path"
	case len(s) > maxPath:
		return fmt.Sprintf("is %d bytes long, at most %d are possible", len(s), maxPath)
	case !strings.HasPrefix(s, "/"):
		return fmt.Sprintf("%q is no absolute path: begin with '/', or with /**/ for a name in any directory", s)
	case s == "/":
		return ""
	case strings.HasSuffix(s, "/"):
		return fmt.Sprintf("%q ends with '/': leave it out for the directory, write %s** for what is below it", s, s)
	}
	for part := range strings.SplitSeq(s[1:], "/") {
		switch part {
		case "":
			return fmt.Sprintf("%q has an empty component: write one '/'", s)
		case ".", "..":
			return fmt.Sprintf("%q has the component %q: write the path that it leads to", s, part)
		}
	}
	if !strings.ContainsAny(s, `*?[\`) {
		return "" // each byte is itself
	}
	if _, err := parsePathGlob(s); err != nil {
		return fmt.Sprintf("%q %s", s, err)
	}
	return ""
}

func badCIDR(s string) string {
	if _, err := parseCIDR(s); err != nil {
		return err.Error()
	}
	return ""
}

// parseCIDR reads an address or a prefix. An IPv4-mapped one becomes IPv4.
func parseCIDR(s string) (netip.Prefix, error) {
	p, err := netip.ParsePrefix(s)
	if err != nil {
		addr, err := netip.ParseAddr(s)
		if err != nil || addr.Zone() != "" {
			return netip.Prefix{}, fmt.Errorf("%q is no CIDR: write 10.0.0.0/8, 2001:db8::/32 or an address", s)
		}
		p = netip.PrefixFrom(addr, addr.BitLen())
	}
	if p.Addr().Is4In6() {
		if p.Bits() < 96 {
			return netip.Prefix{}, fmt.Errorf("%q mixes IPv4 and IPv6: write the IPv4 prefix", s)
		}
		p = netip.PrefixFrom(p.Addr().Unmap(), p.Bits()-96)
	}
	if p.Masked() != p {
		return netip.Prefix{}, fmt.Errorf("%q has bits beyond its length: write %s for the network, or %s for the address", s, p.Masked(), p.Addr())
	}
	return p, nil
}

func badFQDN(s string) string {
	problem := func(what string) string {
		return fmt.Sprintf("%q %s: write a DNS name in lower case, *.example.org for one label, **.example.org for any number", s, what)
	}
	rest := strings.TrimPrefix(s, "**.")
	switch {
	case rest == "" || s == "**":
		return problem("names nothing")
	case len(s) > 253:
		return problem("is longer than 253 bytes")
	case strings.HasSuffix(s, "."):
		return problem("ends with '.'")
	}
	for label := range strings.SplitSeq(rest, ".") {
		switch {
		case label == "" || len(label) > 63:
			return problem("has a label that is empty or longer than 63 bytes")
		case strings.Contains(label, "**"):
			return problem("has ** elsewhere than as its first label")
		}
		for i := range len(label) {
			c := label[i]
			if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' && c != '_' && c != '*' {
				return problem(fmt.Sprintf("has %q in it", c))
			}
		}
	}
	return ""
}

func badPorts(s string) string {
	if _, err := parsePorts(s); err != nil {
		return err.Error()
	}
	return ""
}

// portSyntax is what ports look like, also for the JSON Schema.
const portSyntax = `^(([0-9]{1,5}(-[0-9]{1,5})?|\*)(/(tcp|udp|sctp|icmp|any))?|tcp|udp|sctp|icmp)$`

// protocolNumber is IPPROTO_* of a protocol; icmp stands for ICMPv6 too.
func protocolNumber(name string) (uint8, bool) {
	switch name {
	case "any", "":
		return 0, true
	case "icmp":
		return 1, true
	case "tcp":
		return 6, true
	case "udp":
		return 17, true
	case "sctp":
		return 132, true
	}
	return 0, false
}

func protocolName(number uint8) string {
	switch number {
	case 0:
		return "any"
	case 1, 58:
		return "icmp"
	case 6:
		return "tcp"
	case 17:
		return "udp"
	case 132:
		return "sctp"
	}
	return "other"
}

// parsePorts reads 443/tcp, 8000-8100/udp, 53, */tcp and tcp.
func parsePorts(s string) (PortRange, error) {
	bad := func(why string) (PortRange, error) {
		return PortRange{}, fmt.Errorf("%q %s: write 443/tcp, 8000-8100/udp, 53 for all protocols with ports, */tcp, or icmp", s, why)
	}
	ports, name, found := strings.Cut(s, "/")
	if n, ok := protocolNumber(ports); ok && !found && s != "" && s != "any" {
		return PortRange{Last: 65535, Protocol: n}, nil
	}
	number, ok := protocolNumber(name)
	if !ok || (found && name == "") {
		return bad("has no protocol that is known here")
	}
	r := PortRange{Last: 65535, Protocol: number}
	if ports == "*" {
		return r, nil
	}
	if number == 1 {
		return bad("has a port, and ICMP has none")
	}
	first, last, isRange := strings.Cut(ports, "-")
	if !isRange {
		last = first
	}
	a, err1 := strconv.ParseUint(first, 10, 16)
	b, err2 := strconv.ParseUint(last, 10, 16)
	if err1 != nil || err2 != nil || first[0] == '+' || last[0] == '+' {
		return bad("has no port from 0 to 65535")
	}
	if b < a {
		return bad("is an empty range")
	}
	r.First, r.Last = uint16(a), uint16(b)
	return r, nil
}

func badCapability(s string) string {
	if _, ok := parseCapability(s); !ok {
		var names []string
		for c := model.Cap(0); c.String() != "CAP_"+strconv.Itoa(int(c)); c++ {
			names = append(names, c.String())
		}
		return fmt.Sprintf("%q is no capability%s", s, suggest(strings.ToUpper(s), names))
	}
	return ""
}

// parseCapability reads CAP_NET_ADMIN, also without CAP_ and in lower case.
func parseCapability(s string) (uint8, bool) {
	name := strings.ToUpper(s)
	if !strings.HasPrefix(name, "CAP_") {
		name = "CAP_" + name
	}
	c, ok := model.ParseCap(name)
	return uint8(c), ok && c < 64
}

// userSyntax is a login name as useradd takes it, or a uid.
const userSyntax = `^([a-z_][a-z0-9_.-]{0,31}\$?|[0-9]{1,10})$`

// nameSyntax is a DNS subdomain, as Kubernetes names objects.
const nameSyntax = `^[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*$`

func badUser(s string) string {
	if n, err := strconv.ParseUint(s, 10, 32); err == nil && uint32(n) == model.NoUID {
		return fmt.Sprintf("%q is no user: it is the number for none", s)
	}
	if !matches(userSyntax, s) || (s[0] <= '9' && !validUID(s)) {
		return fmt.Sprintf("%q is no user: write a login name (www-data) or a uid (33)", s)
	}
	return ""
}

func validUID(s string) bool {
	_, err := strconv.ParseUint(s, 10, 32)
	return err == nil
}

func badName(s string) string {
	if len(s) > 253 || !matches(nameSyntax, s) {
		return fmt.Sprintf("%q is no name: write lower case letters, digits, '-' and '.', at most 253", s)
	}
	return ""
}

// badPattern is for globs of names without structure: units and containers.
func badPattern(s string) string {
	switch {
	case s == "":
		return "is empty: leave it out to take everything"
	case len(s) > 256:
		return "is longer than 256 bytes"
	case strings.Contains(s, "**"), strings.ContainsAny(s, `[\/`):
		return fmt.Sprintf("%q has more than the wildcards '*' and '?': a name has no components", s)
	}
	return ""
}

func matches(pattern, s string) bool {
	re, err := regexp.Compile(pattern)
	return err == nil && re.MatchString(s)
}

// suggest ends a message with the known name that is nearest to what was written, or with all when none is near.
func suggest(s string, known []string) string {
	best, at := 3, ""
	for _, k := range known {
		if d := distance(strings.ToLower(s), strings.ToLower(k)); d < best || (d == best && at == "") && d < len(k)/2 {
			best, at = d, k
		}
	}
	if at != "" {
		return fmt.Sprintf(": did you mean %s?", at)
	}
	if len(known) > 12 {
		return ""
	}
	return ": known are " + strings.Join(known, ", ")
}

// distance is Levenshtein's.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			diagonal, row[j+1] = row[j+1], min(diagonal+cost, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
