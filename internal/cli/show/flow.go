// SPDX-License-Identifier: Apache-2.0

package show

import (
	"fmt"
	"time"

	"github.com/vigie-io/vigie/internal/cli/term"
	"github.com/vigie-io/vigie/internal/model"
)

// flowLine puts a conversation into words: "flow  tcp curl[12] 10.0.0.1:4242 → example.org:443  ↑ 1.2K ↓ 34M in 3.1s, fin".
func flowLine(f *model.Flow) Line {
	l := Line{Kind: Network, Verb: "flow", Object: f.Protocol + " " + FlowEnd(&f.Source) + " → " + FlowEnd(&f.Destination)}
	what := f.Reason
	if what == "" {
		what = string(f.Close)
	}
	switch f.Verdict {
	case model.FlowDenied, model.FlowAudited:
		l.Kind = Decision
		l.Detail = joined(", ", string(f.Verdict), term.Escape(what))
		l.Failed = f.Verdict == model.FlowDenied
		return l
	case model.FlowFailed:
		if what == f.Error.String() {
			what = ""
		}
		l.Detail = term.Escape(joined(", ", what, f.Error.String()))
		l.Failed = true
		return l
	}
	var lasted time.Duration
	if f.State == model.FlowClosed {
		lasted = f.End.Sub(f.Start)
	}
	l.Detail = Closed(&model.Socket{BytesSent: f.Total.BytesSent, BytesReceived: f.Total.BytesReceived, Duration: lasted, SRTT: f.SRTT,
		Retransmits: f.Total.Retransmits})
	if f.State == model.FlowOpen {
		what = "open"
	}
	l.Detail = joined(", ", l.Detail, term.Escape(what))
	return l
}

// FlowEnd is one end of a flow: who holds it, then its name or address.
func FlowEnd(e *model.Endpoint) string {
	at := endpoint(e.Address)
	switch {
	case e.Name != "":
		at = fmt.Sprintf("%s:%d", term.Escape(e.Name), e.Address.Port())
	case e.Address.IsValid() && e.Address.Port() == 0:
		at = e.Address.Addr().Unmap().String()
	}
	who := ""
	switch {
	case e.Process != nil:
		who = fmt.Sprintf("%s[%d]", Process(e.Process), e.Process.Key.PID)
	case e.Workload != nil:
		who = Workload(e.Workload)
	}
	return joined(" ", who, at)
}

// requestLine puts a request into words: "http  GET example.org/orders/{id}  200 OK, 11ms".
func requestLine(r *model.Request) Line {
	l := Line{Kind: Network, Verb: term.Cut(term.Escape(r.Protocol), VerbWidth), Failed: r.Failed || r.NoAnswer}
	object := r.Host + r.Path
	if object == "" {
		object = r.Resource
	}
	l.Object = term.Escape(joined(" ", r.Method, object))
	result := r.StatusText
	switch {
	case r.NoAnswer:
		result = "no answer"
	case r.Status != 0:
		result = joined(" ", fmt.Sprint(r.Status), r.StatusText)
	}
	l.Detail = term.Escape(joined(", ", result, r.TLS))
	if r.Latency > 0 {
		l.Detail = joined(", ", l.Detail, Duration(r.Latency))
	}
	if r.Role == "server" {
		l.Detail = joined(", ", l.Detail, "served")
	}
	return l
}
