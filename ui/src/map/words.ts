// SPDX-License-Identifier: Apache-2.0

import { byteRate, duration, percent, rate } from "../format/units";
import type { MapEdge, MapNode } from "../gen/vigie/v1/map_pb";

import type { Link } from "./graph";

const services: Record<number, string> = {
  22: "ssh",
  53: "dns",
  80: "http",
  123: "ntp",
  443: "https",
  3306: "mysql",
  5432: "postgresql",
  6379: "redis",
  9092: "kafka",
};

/** ":5432 postgresql", "icmp". */
export function portName(e: MapEdge): string {
  if (!e.port) return e.protocol;
  const what = e.application || services[e.port] || (e.protocol === "tcp" ? "" : e.protocol);
  return what ? `:${e.port} ${what}` : `:${e.port}`;
}

/** The ports of a line; of many, the first two. */
export function portNames(l: Link): string {
  const more = l.edges.length > 2 ? ` +${l.edges.length - 2}` : "";
  return l.edges.slice(0, 2).map(portName).join(", ") + more;
}

/** A line in words: ports, rate, latency, and what is wrong with it. */
export function lineWords(l: Link, window: number): string {
  const [e] = l.edges;
  if (l.edges.length > 1 || !e) return `${portNames(l)} · ${rate(l.flows, window)}`;
  const errors = errorShare(e);
  return [portName(e), edgeRate(e, window), latency(e), errors > 0 && `${percent(errors)} fail`]
    .filter(Boolean)
    .join(" · ");
}

/** "unit in system.slice", "outside, 2 addresses". */
export function about(n: MapNode): string {
  if (n.kind === "external") return n.addresses.length > 1 ? `outside, ${n.addresses.length} addresses` : "outside";
  if (n.kind === "process") return `process ${n.process?.pid ?? ""}`.trim();
  const kind = n.workload?.kind || "workload";
  return n.processes > 1 ? `${kind}, ${n.processes} processes` : kind;
}

/** What went over an edge, for a table: connections or requests a second. */
export function edgeRate(e: MapEdge, window: number): string {
  return e.requests ? `${rate(Number(e.requests), window)} requests` : rate(Number(e.flows), window);
}

/** The share of what failed, of requests where there are any. */
export function errorShare(e: MapEdge): number {
  const all = e.requests ? Number(e.requests) : Number(e.flows);
  const failed = e.requests ? Number(e.requestErrors) : Number(e.failed + e.denied);
  return all ? Math.min(1, failed / all) : 0;
}

/** Latency of requests where they were seen, else the round-trip time. */
export function latency(e: MapEdge): string {
  if (e.requests) return `${duration(e.latencyP50Ns)} / ${duration(e.latencyP99Ns)}`;
  return e.rttNs ? `rtt ${duration(e.rttNs)}` : "";
}

/** "allowed", "3 denied", "2 failed". */
export function outcome(e: MapEdge): string {
  const parts = [
    e.denied && `${e.denied} denied`,
    e.audited && `${e.audited} would be denied`,
    e.failed && `${e.failed} failed`,
    e.requestErrors && `${e.requestErrors} errors`,
  ].filter(Boolean);
  return parts.join(", ") || "allowed";
}

/** Bytes a second in both directions. */
export function traffic(e: MapEdge, window: number): string {
  return byteRate(Number(e.bytesSent + e.bytesReceived), window);
}
