// SPDX-License-Identifier: Apache-2.0

import { create } from "@bufbuild/protobuf";
import { timestampFromDate } from "@bufbuild/protobuf/wkt";
import { type Filter, FilterSchema } from "../gen/vigie/v1/filter_pb";

// The filter is text with the names of the flags of `vigie events`: "workload:nginx* addr:10.0.0.0/8". Words alone
// search names. What the text means is decided by the agent, as it is for the command line.

/** The keys, each with its flag's meaning and an example. */
export const keys = {
  workload: { about: "workloads by name", example: "nginx*" },
  kind: { about: "kind of workload", example: "unit" },
  binary: { about: "programs by name or path", example: "curl" },
  pid: { about: "a process and what it started", example: "4711" },
  "exec-id": { about: "one process image", example: "0a1b2c3d-…" },
  uid: { about: "users by number", example: "0" },
  type: { about: "types of event", example: "exec,connect" },
  path: { about: "files, unix sockets, mounts", example: "/etc/**" },
  addr: { about: "addresses at either end", example: "10.0.0.0/8, :443" },
  name: { about: "DNS names", example: "*.example.org" },
  node: { about: "nodes, where several answer", example: "web-*" },
  since: { about: "from then on", example: "10m, 15:04" },
  until: { about: "until then", example: "15:30" },
  where: { about: "an expression in CEL", example: "'process.uid == 0u'" },
} as const;
export type Key = keyof typeof keys;

/** What a text asks for: a filter for the agent, and words to look for. */
export interface Parsed {
  filter: Filter;
  words: string[];
  error?: string;
}

/** Splits a text into terms. Quotes keep spaces together. */
export function terms(text: string): { key?: string; value: string }[] {
  const out: { key?: string; value: string }[] = [];
  for (const m of text.matchAll(/(?:([a-z][a-z-]*):)?(?:"([^"]*)"?|'([^']*)'?|(\S+))/g)) {
    const value = m[2] ?? m[3] ?? m[4] ?? "";
    const bare = m[1] ? undefined : /^([a-z][a-z-]*):$/.exec(m[0])?.[1];
    if (bare) out.push({ key: bare, value: "" });
    else if (m[1]) out.push({ key: m[1], value });
    else out.push({ value });
  }
  return out;
}

/** Makes a filter of a text. An error names the term and what to write instead. */
export function parse(text: string, now = new Date()): Parsed {
  const filter = create(FilterSchema);
  const words: string[] = [];
  let error: string | undefined;
  const where: string[] = [];
  for (const { key, value } of terms(text)) {
    if (key === undefined) words.push(value);
    else if (!(key in keys)) error ??= `"${key}:" is not known: the keys are ${Object.keys(keys).join(", ")}`;
    else if (value === "") error ??= `"${key}:" has no value: write ${key}:${keys[key as Key].example}`;
    else error ??= add(filter, where, key as Key, value, now);
  }
  if (where.length) filter.where = where.length === 1 ? where[0]! : where.map((w) => `(${w})`).join(" && ");
  return error ? { filter, words, error } : { filter, words };
}

function add(f: Filter, where: string[], key: Key, value: string, now: Date): string | undefined {
  const list = value.split(",").filter(Boolean);
  const numbers = () => list.map(Number);
  const bad = (key === "pid" || key === "uid") && list.find((v) => !/^\d+$/.test(v));
  if (bad) return `"${key}:${bad}" is no number: write ${key}:${keys[key].example}`;
  switch (key) {
    case "workload":
      f.workloadNames.push(...list);
      break;
    case "kind":
      f.workloadKinds.push(...list);
      break;
    case "binary":
      f.binaries.push(...list);
      break;
    case "pid":
      f.pidTrees.push(...numbers());
      break;
    case "exec-id":
      f.execIds.push(...list);
      break;
    case "uid":
      f.uids.push(...numbers());
      break;
    case "type":
      f.types.push(...list);
      break;
    case "path":
      f.paths.push(...list);
      break;
    case "addr":
      f.addresses.push(...list);
      break;
    case "name":
      f.names.push(...list);
      break;
    case "node":
      f.nodes.push(...list);
      break;
    case "where":
      where.push(value);
      break;
    case "since":
    case "until": {
      const t = time(value, now);
      if (!t) return `"${key}:${value}" is no time: write 10m, 15:04 or 2026-01-31T15:04:05Z`;
      f[key] = timestampFromDate(t);
    }
  }
  return undefined;
}

/** Reads "10m" (that long ago), "15:04[:05]" (the last time it was) or a date. */
export function time(text: string, now: Date): Date | undefined {
  const span = /^(\d+(?:\.\d+)?)(s|m|h|d)$/.exec(text);
  if (span) return new Date(now.getTime() - Number(span[1]) * { s: 1e3, m: 6e4, h: 36e5, d: 864e5 }[span[2] as "s"]);
  const clock = /^(\d{1,2}):(\d{2})(?::(\d{2}))?$/.exec(text);
  if (clock) {
    const t = new Date(now);
    t.setHours(Number(clock[1]), Number(clock[2]), Number(clock[3] ?? 0), 0);
    if (t > now) t.setDate(t.getDate() - 1);
    return t;
  }
  const t = new Date(text);
  return /^\d{4}-/.test(text) && !Number.isNaN(t.getTime()) ? t : undefined;
}

/** Where a list of events has to have a word: in the names that a row shows. */
export function whereWords(words: string[]): string {
  return words
    .map((w) => {
      const s = JSON.stringify(w);
      return `(${searched.map((field) => `${field}.contains(${s})`).join(" || ")})`;
    })
    .join(" && ");
}

const searched = [
  "process.binary",
  "process.workload.name",
  "file.path",
  "file.new_path",
  "socket.remote_name",
  "socket.remote_address",
  "socket.path",
  "dns.name",
  "flow.source.workload.name",
  "flow.destination.workload.name",
  "flow.destination.name",
  "flow.destination.address",
  "request.path",
  "request.host",
  "verdict.policy",
  "verdict.path",
  "alert.rule",
  "alert.message",
];

/** The filter of a text for a list of events: its words become a part of where. */
export function parseForEvents(text: string, now = new Date()): Parsed {
  const p = parse(text, now);
  if (p.words.length) {
    const words = whereWords(p.words);
    p.filter.where = p.filter.where ? `(${p.filter.where}) && ${words}` : words;
  }
  return p;
}

/** The text with key:value in it, in place of what it had for key; without value, without it. */
export function withTerm(text: string, key: Key, value: string): string {
  const rest = terms(text)
    .filter((t) => t.key !== key)
    .map((t) => term(t.key, t.value));
  if (value) rest.push(term(key, value));
  return rest.join(" ");
}

function term(key: string | undefined, value: string): string {
  const v = /\s/.test(value) ? (value.includes("'") ? `"${value}"` : `'${value}'`) : value;
  return key ? `${key}:${v}` : v;
}
