// SPDX-License-Identifier: Apache-2.0

package store

import (
	"strconv"
	"time"

	"github.com/vigie-io/vigie/internal/store/segment"
)

// Keys lists what can be counted by.
func Keys() []string {
	return []string{"workload", "workload_namespace", "process", "binary", "type", "source", "destination", "remote", "remote_name", "port",
		"protocol", "verdict", "policy", "rule", "method", "path", "host", "status", "file", "name", "severity", "hour", "day"}
}

// keyOf appends the key of a row; nothing where it does not apply.
type keyOf func(*line, []byte) []byte

// key makes the function for one of Keys.
func (p *plan) key(name string) keyOf {
	switch name {
	case "workload":
		return p.textKey("workload_name")
	case "binary":
		return p.textKey("process_binary")
	case "verdict":
		return p.textKey("verdict", "action")
	case "file":
		if p.family.Name != "file" {
			return p.textKey()
		}
		return p.textKey("path")
	case "name":
		return p.textKey("name", "remote_name")
	case "remote_name":
		if p.family.Name == "flow" {
			return p.otherEnd("_name")
		}
		return p.textKey("remote_name")
	case "process":
		return p.processKey()
	case "status":
		return p.numberKey("status")
	case "hour":
		return p.timeKey(time.Hour)
	case "day":
		return p.timeKey(24 * time.Hour)
	case "source":
		return p.endKey("source")
	case "destination":
		return p.endKey("destination")
	case "remote":
		return p.remoteKey()
	case "port":
		return p.portKey()
	}
	return p.textKey(name) // is a column's name
}

// textKey is the first of columns that the family has.
func (p *plan) textKey(columns ...string) keyOf {
	at := p.first(columns...)
	return func(l *line, dst []byte) []byte { return append(dst, l.text(at)...) }
}

func (p *plan) numberKey(column string) keyOf {
	at := p.column(column)
	return func(l *line, dst []byte) []byte {
		if !l.known(at) {
			return dst
		}
		return strconv.AppendInt(dst, l.number(at), 10)
	}
}

func (p *plan) processKey() keyOf {
	binary, pid := p.column("process_binary"), p.column("pid")
	return func(l *line, dst []byte) []byte {
		dst = append(dst, l.text(binary)...)
		if !l.known(pid) {
			return dst
		}
		dst = append(dst, '(')
		return append(strconv.AppendInt(dst, l.number(pid), 10), ')')
	}
}

// timeKey is the beginning of the span that the row is in, UTC.
func (p *plan) timeKey(span time.Duration) keyOf {
	at := p.column(segment.ColumnTime)
	return func(l *line, dst []byte) []byte {
		return time.Unix(0, l.number(at)).UTC().Truncate(span).AppendFormat(dst, time.RFC3339)
	}
}

// end names one end by the best that is known: its workload, its DNS name, its address.
type end []place

func (e end) name(l *line, dst []byte) []byte {
	for _, at := range e {
		if s := l.text(at); s != "" {
			return append(dst, s...)
		}
	}
	return dst
}

// flowEnd is an end of a flow: source or destination.
func (p *plan) flowEnd(which string) end {
	return end{p.column(which + "_workload_name"), p.column(which + "_name"), p.column(which + "_address")}
}

// own is the process's end, distant the other, of what has a socket.
func (p *plan) own() end { return end{p.column("workload_name"), p.column("process_binary")} }

func (p *plan) distant() end {
	return end{p.column("remote_name"), p.column("remote_address"), p.column("server_address"), p.column("path")}
}

// endKey is source, who began, or destination.
func (p *plan) endKey(which string) keyOf {
	if p.family.Name == "flow" {
		return p.flowEnd(which).name
	}
	own, distant, incoming := p.own(), p.distant(), p.incoming()
	return func(l *line, dst []byte) []byte {
		if incoming(l) == (which == "source") {
			return distant.name(l, dst)
		}
		return own.name(l, dst)
	}
}

// incoming says of a row whether the other end began.
func (p *plan) incoming() func(*line) bool {
	typ, direction, role := p.column(segment.ColumnType), p.column("direction"), p.column("role")
	return func(l *line) bool {
		return l.text(typ) == "accept" || l.text(typ) == "listen" || l.text(direction) == "inbound" || l.text(role) == "server"
	}
}

// remoteKey is the other end: of a flow the one that is not the event's process.
func (p *plan) remoteKey() keyOf {
	if p.family.Name != "flow" {
		return p.distant().name
	}
	source, destination, incoming := p.flowEnd("source"), p.flowEnd("destination"), p.incoming()
	return func(l *line, dst []byte) []byte {
		if incoming(l) {
			return source.name(l, dst)
		}
		return destination.name(l, dst)
	}
}

// otherEnd is a column of a flow's other end.
func (p *plan) otherEnd(suffix string) keyOf {
	source, destination, incoming := p.column("source"+suffix), p.column("destination"+suffix), p.incoming()
	return func(l *line, dst []byte) []byte {
		if incoming(l) {
			return append(dst, l.text(source)...)
		}
		return append(dst, l.text(destination)...)
	}
}

// portKey is the port of who did not begin.
func (p *plan) portKey() keyOf {
	if p.family.Name == "flow" {
		return p.numberKey("destination_port")
	}
	if p.family.Name == "dns" {
		return p.numberKey("server_port")
	}
	local, remote, incoming := p.column("local_port"), p.column("remote_port"), p.incoming()
	return func(l *line, dst []byte) []byte {
		at := remote
		if incoming(l) {
			at = local
		}
		if !l.known(at) {
			return dst
		}
		return strconv.AppendInt(dst, l.number(at), 10)
	}
}
