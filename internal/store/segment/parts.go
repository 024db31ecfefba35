// SPDX-License-Identifier: Apache-2.0

package segment

import (
	"net/netip"
	"slices"
	"time"

	"github.com/vigie-io/vigie/internal/model"
)

func execPart(e *model.Event, make bool) *model.Exec             { return ensure(&e.Exec, make) }
func execFailedPart(e *model.Event, make bool) *model.ExecFailed { return ensure(&e.ExecFailed, make) }
func exitPart(e *model.Event, make bool) *model.Exit             { return ensure(&e.Exit, make) }
func filePart(e *model.Event, make bool) *model.File             { return ensure(&e.File, make) }
func socketPart(e *model.Event, make bool) *model.Socket         { return ensure(&e.Socket, make) }
func dnsPart(e *model.Event, make bool) *model.DNS               { return ensure(&e.DNS, make) }
func requestPart(e *model.Event, make bool) *model.Request       { return ensure(&e.Request, make) }
func lossPart(e *model.Event, make bool) *model.Loss             { return ensure(&e.Loss, make) }

func execColumns() []Column {
	return []Column{
		text("previous", execPart, func(x *model.Exec) *string { return &x.Previous }, "Of exec: exec_id of the image that was replaced"),
		text("failed_path", execFailedPart, func(x *model.ExecFailed) *string { return &x.Path }, "Of exec_failed: the path as given by the caller"),
		object("failed_args", func(r *row) string {
			if r.ExecFailed == nil {
				return ""
			}
			return textsJSON(r.ExecFailed.Args)
		}, decodeTexts, func(e *model.Event, list any) { execFailedPart(e, true).Args = list.([]string) }, "Of exec_failed: argv as given, a list"),
		errno("error", execFailedPart, func(x *model.ExecFailed) *model.Errno { return &x.Error }, "Of exec_failed: why"),
		number("exit_code", exitPart, func(x *model.Exit) *int32 { return &x.Code }, "Of exit: status, 0 when ended by a signal"),
		number("exit_signal", exitPart, func(x *model.Exit) *uint32 { return &x.Signal }, "Of exit: signal, 0 when it exited by itself"),
		boolean("core_dumped", exitPart, func(x *model.Exit) *bool { return &x.Core }, "Of exit"),
		duration("run_time_ns", exitPart, func(x *model.Exit) *time.Duration { return &x.RunTime }, "Of exit: from its start to its end"),
	}
}

func fileColumns() []Column {
	return []Column{
		text("op", filePart, func(f *model.File) *model.FileOp { return &f.Op }, "read, write, create, truncate, rename, link, unlink, chmod or chown"),
		text("path", filePart, func(f *model.File) *string { return &f.Path }, "The file"),
		text("new_path", filePart, func(f *model.File) *string { return &f.NewPath }, "Of rename and link"),
		text("path_from", filePart, func(f *model.File) *string { return &f.PathFrom }, "object or argument: how sure path is"),
		number("inode", filePart, func(f *model.File) *uint64 { return &f.Inode }, "Inode number"),
		number("device", filePart, func(f *model.File) *uint32 { return &f.Device }, "Device, major<<20 | minor"),
		number("flags", filePart, func(f *model.File) *uint32 { return &f.Flags }, "Open flags (O_*)"),
		number("mode", filePart, func(f *model.File) *uint32 { return &f.Mode }, "Of chmod the new mode, of create the mode asked for"),
		number("owner_uid", filePart, func(f *model.File) *uint32 { return &f.UID }, "Of chown: the new owner, 4294967295 where unchanged"),
		number("owner_gid", filePart, func(f *model.File) *uint32 { return &f.GID }, "Of chown: the new group, 4294967295 where unchanged"),
		text("file_type", filePart, func(f *model.File) *string { return &f.FileType }, "regular, directory, device, fifo, socket, symlink or other"),
		errno("error", filePart, func(f *model.File) *model.Errno { return &f.Error }, "Symbolic error name; NULL on success"),
	}
}

func socketColumns() []Column {
	return slices.Concat([]Column{
		text("protocol", socketPart, func(s *model.Socket) *string { return &s.Protocol }, "tcp, udp or unix"),
		text("family", socketPart, func(s *model.Socket) *string { return &s.Family }, "ipv4, ipv6 or unix"),
	},
		endpoint("local", socketPart, func(s *model.Socket) *netip.AddrPort { return &s.Local }, "this end"),
		endpoint("remote", socketPart, func(s *model.Socket) *netip.AddrPort { return &s.Remote }, "the other end"),
		[]Column{
			text("remote_name", socketPart, func(s *model.Socket) *string { return &s.RemoteName }, "The DNS name by which the process asked for the other end"),
			text("path", socketPart, func(s *model.Socket) *string { return &s.Path }, "Of unix sockets"),
			number("cookie", socketPart, func(s *model.Socket) *uint64 { return &s.Cookie }, "The same in all events of one socket"),
			number("net_ns", socketPart, func(s *model.Socket) *uint32 { return &s.NetNS }, "Network namespace"),
			number("peer_pid", socketPart, func(s *model.Socket) *uint32 { return &s.PeerPID }, "Of unix sockets: the listener's process"),
			number("backlog", socketPart, func(s *model.Socket) *uint32 { return &s.Backlog }, "Of listen: length of the accept queue"),
			duration("latency_ns", socketPart, func(s *model.Socket) *time.Duration { return &s.Latency }, "Of connect: until established or failed"),
			errno("error", socketPart, func(s *model.Socket) *model.Errno { return &s.Error }, "Of connect and close; NULL on success"),
			number("bytes_sent", socketPart, func(s *model.Socket) *uint64 { return &s.BytesSent }, "Of close"),
			number("bytes_received", socketPart, func(s *model.Socket) *uint64 { return &s.BytesReceived }, "Of close"),
			number("packets_sent", socketPart, func(s *model.Socket) *uint64 { return &s.PacketsSent }, "Of close"),
			number("packets_received", socketPart, func(s *model.Socket) *uint64 { return &s.PacketsReceived }, "Of close"),
			number("retransmits", socketPart, func(s *model.Socket) *uint32 { return &s.Retransmits }, "Of close"),
			duration("srtt_ns", socketPart, func(s *model.Socket) *time.Duration { return &s.SRTT }, "Of close: smoothed round-trip time"),
			duration("duration_ns", socketPart, func(s *model.Socket) *time.Duration { return &s.Duration }, "Of close: since it was connected, accepted or bound"),
			text("direction", socketPart, func(s *model.Socket) *string { return &s.Direction }, "outbound, inbound or listener"),
		})
}

func dnsColumns() []Column {
	return slices.Concat([]Column{
		text("name", dnsPart, func(d *model.DNS) *string { return &d.Name }, "The question"),
		text("qtype", dnsPart, func(d *model.DNS) *string { return &d.QType }, "A, AAAA, …"),
		text("rcode", dnsPart, func(d *model.DNS) *string { return &d.RCode }, "NOERROR, NXDOMAIN, …; NULL without an answer"),
		object("answers", func(r *row) string {
			if r.DNS == nil {
				return ""
			}
			return answersJSON(r.DNS.Answers)
		}, decodeAnswers, func(e *model.Event, list any) { dnsPart(e, true).Answers = list.([]model.DNSAnswer) }, "Records of the answer: a list of type, data and ttl in seconds"),
		duration("latency_ns", dnsPart, func(d *model.DNS) *time.Duration { return &d.Latency }, "From question to answer"),
	},
		endpoint("server", dnsPart, func(d *model.DNS) *netip.AddrPort { return &d.Server }, "the server"),
		[]Column{
			text("protocol", dnsPart, func(d *model.DNS) *string { return &d.Protocol }, "udp or tcp"),
			boolean("timeout", dnsPart, func(d *model.DNS) *bool { return &d.Timeout }, "No answer was seen"),
			boolean("truncated", dnsPart, func(d *model.DNS) *bool { return &d.Truncated }, "The answer was longer than what was seen"),
		})
}

func lossColumns() []Column {
	return []Column{
		text("stage", lossPart, func(l *model.Loss) *string { return &l.Stage }, "Where: kernel, decode, enrich, pipeline, subscriber, export, store, …"),
		text("reason", lossPart, func(l *model.Loss) *string { return &l.Reason }, "Why"),
		number("lost", lossPart, func(l *model.Loss) *uint64 { return &l.Count }, "How many since the last row of this stage and reason"),
		number("lost_total", lossPart, func(l *model.Loss) *uint64 { return &l.Total }, "How many since the agent started"),
	}
}
