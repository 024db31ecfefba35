// SPDX-License-Identifier: Apache-2.0

package dns

import (
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"golang.org/x/net/dns/dnsmessage"

	"github.com/vigie-io/vigie/internal/model"
)

// message is the part of a DNS message that events show.
type message struct {
	id        uint16
	answer    bool
	truncated bool // the TC bit, or cut
	rcode     uint16
	name      string
	qtype     uint16
	answers   []model.DNSAnswer
}

// parse reads a message, of which the end may be cut off: then what is whole of its answers is kept. The
// bytes come from the network, so nothing in them is trusted.
func parse(b []byte, cut bool) (message, error) {
	var p dnsmessage.Parser
	h, err := p.Start(b)
	if err != nil {
		return message{}, fmt.Errorf("read the header: %w", err)
	}
	q, err := p.Question()
	if err != nil {
		return message{}, fmt.Errorf("read the question: %w", err)
	}
	m := message{id: h.ID, answer: h.Response, truncated: h.Truncated || cut, rcode: uint16(h.RCode), name: nameText(q.Name), qtype: uint16(q.Type)}
	if !m.answer {
		return m, nil
	}
	if err := m.parseAnswers(&p); err != nil && !m.truncated {
		return message{}, fmt.Errorf("read the answers: %w", err)
	}
	return m, nil
}

func (m *message) parseAnswers(p *dnsmessage.Parser) error {
	if err := p.SkipAllQuestions(); err != nil {
		return err
	}
	for {
		r, err := p.Answer()
		if errors.Is(err, dnsmessage.ErrSectionDone) {
			break
		} else if err != nil {
			return err
		}
		m.answers = append(m.answers, model.DNSAnswer{Type: typeName(uint16(r.Header.Type)), Data: dataText(r.Body),
			TTL: time.Duration(r.Header.TTL) * time.Second})
	}
	if err := p.SkipAllAuthorities(); err != nil {
		return err
	}
	for {
		h, err := p.AdditionalHeader()
		if errors.Is(err, dnsmessage.ErrSectionDone) {
			return nil
		} else if err != nil {
			return err
		}
		if h.Type == dnsmessage.TypeOPT { // the upper bits of the response code
			m.rcode = uint16(h.ExtendedRCode(dnsmessage.RCode(m.rcode)))
		}
		if err := p.SkipAdditional(); err != nil {
			return err
		}
	}
}

// nameText is a name in lower case, without the final dot, other bytes than printable ASCII as \DDD (RFC 1035, 5.1).
func nameText(n dnsmessage.Name) string {
	b := n.Data[:n.Length]
	if len(b) > 1 && b[len(b)-1] == '.' {
		b = b[:len(b)-1]
	}
	return string(appendEscaped(make([]byte, 0, len(b)), b, true))
}

func appendEscaped(dst, b []byte, lower bool) []byte {
	for _, c := range b {
		switch {
		case lower && c >= 'A' && c <= 'Z':
			dst = append(dst, c+'a'-'A')
		case c == '\\' || c == '"':
			dst = append(dst, '\\', c)
		case (c == ' ' && !lower) || (c > ' ' && c < 0x7f):
			dst = append(dst, c)
		default:
			dst = append(dst, '\\', '0'+c/100, '0'+c/10%10, '0'+c%10)
		}
	}
	return dst
}

// dataText is the text form of a record, as zone files have it.
func dataText(body dnsmessage.ResourceBody) string {
	switch r := body.(type) {
	case *dnsmessage.AResource:
		return netip.AddrFrom4(r.A).String()
	case *dnsmessage.AAAAResource:
		return netip.AddrFrom16(r.AAAA).String()
	case *dnsmessage.CNAMEResource:
		return nameText(r.CNAME)
	case *dnsmessage.PTRResource:
		return nameText(r.PTR)
	case *dnsmessage.NSResource:
		return nameText(r.NS)
	case *dnsmessage.MXResource:
		return fmt.Sprintf("%d %s", r.Pref, nameText(r.MX))
	case *dnsmessage.SRVResource:
		return fmt.Sprintf("%d %d %d %s", r.Priority, r.Weight, r.Port, nameText(r.Target))
	case *dnsmessage.SOAResource:
		return fmt.Sprintf("%s %s %d %d %d %d %d", nameText(r.NS), nameText(r.MBox), r.Serial, r.Refresh, r.Retry, r.Expire, r.MinTTL)
	case *dnsmessage.TXTResource:
		var out []byte
		for i, t := range r.TXT {
			if i > 0 {
				out = append(out, ' ')
			}
			out = append(appendEscaped(append(out, '"'), []byte(t), false), '"')
		}
		return string(out)
	case *dnsmessage.HTTPSResource:
		return serviceText(&r.SVCBResource)
	case *dnsmessage.SVCBResource:
		return serviceText(r)
	case *dnsmessage.UnknownResource:
		return fmt.Sprintf(`\# %d %s`, len(r.Data), hex.EncodeToString(r.Data)) // RFC 3597, 5
	}
	return ""
}

// serviceText is the text of an HTTPS or SVCB record (RFC 9460, 2.1).
func serviceText(r *dnsmessage.SVCBResource) string {
	var out strings.Builder
	fmt.Fprintf(&out, "%d %s", r.Priority, nameText(r.Target))
	for _, p := range r.Params {
		switch p.Key {
		case dnsmessage.SVCParamALPN:
			out.WriteString(" alpn=" + alpnText(p.Value))
		case dnsmessage.SVCParamPort:
			if len(p.Value) == 2 {
				fmt.Fprintf(&out, " port=%d", int(p.Value[0])<<8|int(p.Value[1]))
			}
		case dnsmessage.SVCParamIPv4Hint:
			out.WriteString(" ipv4hint=" + addressesText(p.Value, 4))
		case dnsmessage.SVCParamIPv6Hint:
			out.WriteString(" ipv6hint=" + addressesText(p.Value, 16))
		default:
			fmt.Fprintf(&out, " key%d=%s", uint16(p.Key), hex.EncodeToString(p.Value))
		}
	}
	return out.String()
}

// alpnText joins protocol names, each with its length before it.
func alpnText(b []byte) string {
	var out []byte
	for len(b) > 0 {
		n := min(int(b[0]), len(b)-1)
		if out != nil {
			out = append(out, ',')
		}
		out = appendEscaped(out, b[1:1+n], false)
		b = b[1+n:]
	}
	return string(out)
}

func addressesText(b []byte, size int) string {
	var out []string
	for ; len(b) >= size; b = b[size:] {
		a, _ := netip.AddrFromSlice(b[:size])
		out = append(out, a.String())
	}
	return strings.Join(out, ",")
}

// typeName is the name of a record type, or TYPEn (RFC 3597). The registry is IANA's "Resource Record (RR) TYPEs".
func typeName(t uint16) string {
	switch t {
	case 1:
		return "A"
	case 2:
		return "NS"
	case 5:
		return "CNAME"
	case 6:
		return "SOA"
	case 12:
		return "PTR"
	case 13:
		return "HINFO"
	case 15:
		return "MX"
	case 16:
		return "TXT"
	case 28:
		return "AAAA"
	case 29:
		return "LOC"
	case 33:
		return "SRV"
	case 35:
		return "NAPTR"
	case 39:
		return "DNAME"
	case 41:
		return "OPT"
	case 43:
		return "DS"
	case 44:
		return "SSHFP"
	case 46:
		return "RRSIG"
	case 47:
		return "NSEC"
	case 48:
		return "DNSKEY"
	case 50:
		return "NSEC3"
	case 52:
		return "TLSA"
	case 64:
		return "SVCB"
	case 65:
		return "HTTPS"
	case 251:
		return "IXFR"
	case 252:
		return "AXFR"
	case 255:
		return "ANY"
	case 256:
		return "URI"
	case 257:
		return "CAA"
	}
	return "TYPE" + strconv.Itoa(int(t))
}

// rcodeName is the name of a response code, or RCODEn. The registry is IANA's "DNS RCODEs".
func rcodeName(c uint16) string {
	names := [...]string{"NOERROR", "FORMERR", "SERVFAIL", "NXDOMAIN", "NOTIMP", "REFUSED", "YXDOMAIN", "YXRRSET",
		"NXRRSET", "NOTAUTH", "NOTZONE", "DSOTYPENI", "", "", "", "", "BADVERS"}
	if int(c) < len(names) && names[c] != "" {
		return names[c]
	}
	return "RCODE" + strconv.Itoa(int(c))
}
