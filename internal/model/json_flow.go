// SPDX-License-Identifier: Apache-2.0

package model

func (f *Flow) appendField(dst []byte) []byte {
	dst = append(dst, `"flow":{`...)
	dst = jsonUint(dst, "id", f.ID)
	dst = jsonUint(dst, "report", uint64(f.Report))
	dst = jsonText(dst, "state", string(f.State))
	dst = jsonText(dst, "protocol", f.Protocol)
	dst = jsonText(dst, "family", f.Family)
	dst = jsonText(dst, "direction", string(f.Direction))
	dst = append(dst, `"source":`...)
	dst = append(f.Source.appendJSON(dst), `,"destination":`...)
	dst = append(f.Destination.appendJSON(dst), ',')
	if s := f.Service; s != nil {
		dst = append(dst, `"service":{`...)
		dst = jsonText(dst, "name", s.Name)
		dst = jsonText(dst, "namespace", s.Namespace)
		dst = jsonAddrPort(dst, "address", "port", s.Address)
		dst = append(jsonClose(dst), ',')
	}
	dst = jsonText(dst, "verdict", string(f.Verdict))
	dst = jsonText(dst, "reason", f.Reason)
	dst = jsonText(dst, "policy", f.Policy)
	dst = jsonText(dst, "rule", f.Rule)
	dst = jsonTime(dst, "start", f.Start)
	dst = jsonTime(dst, "end", f.End)
	dst = f.Total.appendField(dst, "total")
	dst = f.Interval.appendField(dst, "interval")
	dst = jsonDuration(dst, "srtt_ns", f.SRTT)
	dst = jsonDuration(dst, "latency_ns", f.Latency)
	dst = jsonText(dst, "close", string(f.Close))
	dst = jsonErrno(dst, f.Error)
	dst = jsonUint(dst, "icmp_type", uint64(f.ICMPType))
	dst = jsonUint(dst, "icmp_code", uint64(f.ICMPCode))
	dst = jsonUint(dst, "cookie", f.Cookie)
	dst = jsonUint(dst, "net_ns", uint64(f.NetNS))
	return append(jsonClose(dst), ',')
}

func (e *Endpoint) appendJSON(dst []byte) []byte {
	dst = append(dst, '{')
	dst = jsonAddrPort(dst, "address", "port", e.Address)
	dst = jsonText(dst, "name", e.Name)
	if e.Process != nil {
		dst = append(dst, `"process":`...)
		dst = append(e.Process.appendRef(dst), ',')
	}
	if e.Workload != nil {
		dst = append(dst, `"workload":`...)
		dst = append(e.Workload.appendJSON(dst), ',')
	}
	return jsonClose(dst)
}

func (c *FlowCounters) appendField(dst []byte, name string) []byte {
	dst = append(jsonName(dst, name), '{')
	dst = jsonUint(dst, "bytes_sent", c.BytesSent)
	dst = jsonUint(dst, "bytes_received", c.BytesReceived)
	dst = jsonUint(dst, "packets_sent", c.PacketsSent)
	dst = jsonUint(dst, "packets_received", c.PacketsReceived)
	dst = jsonUint(dst, "retransmits", uint64(c.Retransmits))
	return append(jsonClose(dst), ',')
}

func (r *Request) appendField(dst []byte) []byte {
	dst = append(dst, `"request":{`...)
	dst = jsonText(dst, "protocol", r.Protocol)
	dst = jsonText(dst, "version", r.Version)
	dst = jsonText(dst, "role", r.Role)
	dst = jsonText(dst, "method", r.Method)
	dst = jsonText(dst, "path", r.Path)
	dst = jsonText(dst, "host", r.Host)
	dst = jsonText(dst, "resource", r.Resource)
	if r.Status != 0 {
		dst = jsonIntAlways(dst, "status", int64(r.Status))
	}
	dst = jsonText(dst, "status_text", r.StatusText)
	dst = jsonBool(dst, "failed", r.Failed)
	dst = jsonBool(dst, "no_answer", r.NoAnswer)
	dst = jsonDuration(dst, "latency_ns", r.Latency)
	dst = jsonDuration(dst, "duration_ns", r.Duration)
	dst = jsonUint(dst, "request_bytes", r.RequestBytes)
	dst = jsonUint(dst, "response_bytes", r.ResponseBytes)
	dst = jsonText(dst, "tls", r.TLS)
	dst = jsonText(dst, "trace_id", r.TraceID)
	dst = jsonText(dst, "parent_span_id", r.ParentSpanID)
	dst = jsonBool(dst, "sampled", r.Sampled)
	dst = jsonAddrPort(dst, "local_address", "local_port", r.Local)
	dst = jsonAddrPort(dst, "remote_address", "remote_port", r.Remote)
	dst = jsonText(dst, "remote_name", r.RemoteName)
	dst = jsonUint(dst, "cookie", r.Cookie)
	dst = jsonUint(dst, "net_ns", uint64(r.NetNS))
	return append(jsonClose(dst), ',')
}
