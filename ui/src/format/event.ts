// SPDX-License-Identifier: Apache-2.0

import type { Event, Socket, Verdict } from "../gen/vigie/v1/event_pb";
import type { Endpoint, Flow, Request } from "../gen/vigie/v1/flow_pb";
import type { Process, ProcessRef } from "../gen/vigie/v1/process_pb";
import { bytes, count, duration } from "./units";

/** How an event is coloured. */
export type Tone = "program" | "file" | "network" | "name" | "privilege" | "decision" | "alarm" | "loss";

/** An event as a row of a list shows it. */
export interface Line {
  tone: Tone;
  verb: string;
  object: string;
  detail: string;
  failed: boolean;
}

/** The last component of a path. */
export function base(path: string): string {
  return path.slice(path.lastIndexOf("/") + 1) || path;
}

/** "nginx", "[kworker]". */
export function processName(p: Process | ProcessRef | undefined): string {
  return p ? base(p.binary) || ("kernelThread" in p && p.kernelThread ? "kernel thread" : "?") : "?";
}

/** The command line as one would type it. */
export function commandLine(p: Process): string {
  const text = p.args
    .map((a) => (a === "" || /[\s"'$`\\|&;<>()*?]/.test(a) ? `'${a.replaceAll("'", `'\\''`)}'` : a))
    .join(" ");
  return p.argsTruncated ? `${text} …` : text || p.binary;
}

/** "10.0.0.1:443", "[2001:db8::1]:443", "example.org:443". */
export function address(host: string, port: number, name = ""): string {
  const h = name || (host.includes(":") ? `[${host}]` : host) || "?";
  return port ? `${h}:${port}` : h;
}

/** What e says, in one line. */
export function line(e: Event): Line {
  const l: Line = { tone: "privilege", verb: e.type, object: "", detail: "", failed: false };
  if (e.exec)
    Object.assign(l, { tone: "program", object: e.process ? commandLine(e.process) : "", detail: peculiar(e.process) });
  else if (e.execFailed) Object.assign(l, { tone: "program", verb: "exec failed", object: e.execFailed.path });
  else if (e.exit) {
    const x = e.exit;
    Object.assign(l, {
      tone: "program",
      object: x.signal ? `signal ${x.signal}` : `code ${x.code}`,
      detail: `after ${duration(x.runTimeNs)}`,
    });
    l.failed = x.signal > 0 || x.code !== 0;
  } else if (e.type === "fork") Object.assign(l, { tone: "program", object: e.process ? commandLine(e.process) : "" });
  else if (e.file) {
    const f = e.file;
    Object.assign(l, {
      tone: "file",
      verb: f.op,
      object: f.newPath ? `${f.path} → ${f.newPath}` : f.path,
      detail: f.mode && `mode ${f.mode}`,
    });
  } else if (e.socket) socket(l, e, e.socket);
  else if (e.flow) flow(l, e.flow);
  else if (e.request) request(l, e.request);
  else if (e.dns) {
    const d = e.dns;
    const answers = d.answers.slice(0, 3).map((a) => a.data);
    const more = d.answers.length > 3 ? ` and ${d.answers.length - 3} more` : "";
    Object.assign(l, {
      tone: "name",
      object: `${d.qtype} ${d.name}`,
      failed: d.timeout || (d.rcode !== "" && d.rcode !== "NOERROR"),
    });
    l.detail = d.timeout ? "no answer" : `→ ${answers.length ? answers.join(", ") + more : d.rcode}`;
  } else if (e.verdict) verdict(l, e.verdict);
  else if (e.alert)
    Object.assign(l, {
      tone: "alarm",
      verb: e.alert.severity,
      object: e.alert.message || e.alert.title,
      detail: e.alert.tags.join(" "),
    });
  else if (e.loss)
    Object.assign(l, {
      tone: "loss",
      verb: "lost",
      object: `${count(e.loss.count)} in ${e.loss.stage}: ${e.loss.reason}`,
    });
  else privilege(l, e);
  const error =
    e.execFailed?.error ||
    e.file?.error ||
    e.socket?.error ||
    e.flow?.error ||
    e.credential?.error ||
    e.namespace?.error ||
    e.ptrace?.error ||
    e.module?.error ||
    e.bpf?.error ||
    e.mount?.error;
  if (error) {
    l.failed = true;
    l.detail = l.detail ? `${error}, ${l.detail}` : error;
  }
  return l;
}

function peculiar(p: Process | undefined): string {
  const f = p?.file;
  if (!f) return "";
  return [
    f.memfd && "from memory",
    f.deleted && "deleted file",
    f.overlayUpper && "not of the image",
    f.setuidGained && "set-user-id",
  ]
    .filter(Boolean)
    .join(", ");
}

function socket(l: Line, e: Event, s: Socket): void {
  l.tone = "network";
  if (e.preExisting) l.verb = { connect: "connected", accept: "accepted", listen: "listening" }[e.type] ?? e.type;
  const local = address(s.localAddress, s.localPort);
  const remote = address(s.remoteAddress, s.remotePort, s.remoteName);
  if (s.protocol === "unix") l.object = `unix ${s.path || "(unnamed)"}`;
  else if (e.type === "listen" || s.direction === "listener") l.object = `${s.protocol} ${local}`;
  else if (e.type === "accept" || s.direction === "inbound") l.object = `${s.protocol} ${remote} → ${local}`;
  else l.object = `${s.protocol} ${remote}`;
  if (e.type === "close") l.detail = `↑ ${bytes(s.bytesSent)} ↓ ${bytes(s.bytesReceived)} in ${duration(s.durationNs)}`;
  else if (s.latencyNs) l.detail = duration(s.latencyNs);
}

/** "web.service", a name, or an address. */
export function endName(e: Endpoint | undefined): string {
  return e ? e.workload?.name || address(e.address, e.port, e.name) : "?";
}

function flow(l: Line, f: Flow): void {
  const to = f.destination;
  l.tone = f.verdict === "denied" ? "alarm" : "network";
  l.verb = f.state === "open" ? "flow" : `flow ${f.close || "closed"}`;
  l.object = `${f.protocol} ${endName(f.source)} → ${endName(to)}${to?.port && to.workload ? `:${to.port}` : ""}`;
  l.failed = f.verdict === "denied" || f.verdict === "failed";
  const total = f.total;
  l.detail = [
    f.reason,
    total && `↑ ${bytes(total.bytesSent)} ↓ ${bytes(total.bytesReceived)}`,
    f.srttNs && `rtt ${duration(f.srttNs)}`,
  ]
    .filter(Boolean)
    .join(", ");
}

function request(l: Line, r: Request): void {
  l.tone = "network";
  l.verb = r.protocol;
  l.object = [r.method, r.host + r.path, r.resource].filter(Boolean).join(" ");
  l.failed = r.failed || r.noAnswer;
  l.detail = r.noAnswer ? "no answer" : [r.status || "", r.statusText, duration(r.latencyNs)].filter(Boolean).join(" ");
}

function verdict(l: Line, v: Verdict): void {
  l.tone = "decision";
  l.verb = v.action;
  l.failed = v.action !== "audited";
  l.object = `${v.operation} ${verdictObject(v)}`;
  l.detail = `by ${v.policy} ${v.rule}`;
}

/** What a verdict was about: a path, an address or a capability. */
export function verdictObject(v: Verdict): string {
  if (v.path) return v.path;
  if (v.remoteAddress) return `${v.protocol} ${address(v.remoteAddress, v.remotePort, v.remoteName)}`;
  if (v.localAddress || v.localPort) return `${v.protocol} ${address(v.localAddress, v.localPort)}`;
  return v.subject;
}

function privilege(l: Line, e: Event): void {
  if (e.credential) {
    const { call, old, new: now } = e.credential;
    Object.assign(l, { verb: call, object: `uid ${old?.euid ?? "?"} → ${now?.euid ?? "?"}` });
  } else if (e.namespace) Object.assign(l, { verb: e.namespace.call, object: e.namespace.flags.join(", ") });
  else if (e.ptrace)
    Object.assign(l, { object: `${e.ptrace.request} ${processName(e.ptrace.target)} (${e.ptrace.targetPid})` });
  else if (e.module) Object.assign(l, { object: `${e.module.op} ${e.module.name}` });
  else if (e.bpf) Object.assign(l, { object: `${e.bpf.op} ${e.bpf.progType} ${e.bpf.progName}` });
  else if (e.mount)
    Object.assign(l, { verb: e.mount.op, object: `${e.mount.source} → ${e.mount.target}`, detail: e.mount.fsType });
  else if (e.capability)
    Object.assign(l, {
      object: e.capability.cap,
      failed: !e.capability.granted,
      detail: e.capability.granted ? "granted" : "refused",
    });
  else if (e.probe) Object.assign(l, { object: `${e.probe.hook} ${e.probe.message}`, detail: e.probe.policy });
}
