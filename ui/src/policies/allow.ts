// SPDX-License-Identifier: Apache-2.0

import { isMap, isScalar, isSeq, parseDocument, stringify, type YAMLMap, type YAMLSeq } from "yaml";

// The smallest change of a policy that allows what it denied. The text is changed where it has to be and nowhere else:
// comments, order and layout are their author's.

/** What was denied, as a verdict or a simulation tells it. */
export interface Denied {
  rule: string; // "files.deny[0]", "network.egress.allow"
  operation: string;
  binary: string;
  path: string;
  protocol: string;
  localAddress: string;
  localPort: number;
  remoteAddress: string;
  remotePort: number;
  remoteName: string;
  subject: string;
}

/** A change of a policy's text, or why there is none. warning says what more than this it allows. */
export type Change = { text: string; warning?: string } | { reason: string };

/** Makes the change. */
export function allow(text: string, d: Denied): Change {
  const doc = parseDocument(text);
  if (doc.errors.length) return { reason: "The policy is no YAML that this page can change." };
  const m = /^([a-z]+(?:\.[a-z]+)?)\.(allow|deny)(?:\[(\d+)\])?$/.exec(d.rule);
  if (!m || doc.get("kind") !== "WorkloadPolicy")
    return { reason: "Only rules of WorkloadPolicies can be changed here." };
  const path = ["spec", ...m[1]!.split("."), m[2]!];
  const list = doc.getIn(path);
  if (!isSeq(list)) return { reason: `The policy has no ${path.join(".")} any more.` };
  if (m[2] === "deny") return except(text, list, Number(m[3]), d);
  const rule = ruleFor(m[1]!, d);
  return rule === undefined
    ? { reason: `No rule allows this alone: ${d.operation} ${d.subject}.` }
    : { text: append(text, list, rule) };
}

/** The narrowest rule of a section that holds for what was denied. */
function ruleFor(section: string, d: Denied): unknown {
  const by = d.binary ? { by: d.binary } : {};
  const cidr = (address: string) => ({ cidr: address });
  switch (section) {
    case "processes":
      return d.path || undefined;
    case "files":
      return d.path ? { path: d.path, access: d.operation, ...by } : undefined;
    case "network.egress":
      if (!d.remoteAddress) return undefined;
      return {
        to: d.remoteName ? { fqdn: d.remoteName } : cidr(d.remoteAddress),
        ports: ports(d.remotePort, d.protocol),
        ...by,
      };
    case "network.ingress":
      return d.remoteAddress
        ? { from: cidr(d.remoteAddress), ports: ports(d.localPort, d.protocol), ...by }
        : undefined;
    case "network.listen":
      return d.localPort
        ? { ...(d.localAddress ? { on: cidr(d.localAddress) } : {}), ports: ports(d.localPort, d.protocol), ...by }
        : undefined;
    case "capabilities":
      return d.subject ? { caps: [d.subject], ...by } : undefined;
  }
  return undefined;
}

function ports(port: number, protocol: string): string {
  return port ? `${port}/${protocol}` : protocol;
}

function flow(value: unknown): string {
  return stringify(value, { collectionStyle: "flow", lineWidth: 0, flowCollectionPadding: false }).trimEnd();
}

// append adds an item to a list in the list's own style.
function append(text: string, list: YAMLSeq, rule: unknown): string {
  const [start, end] = list.range!;
  const item = flow(rule);
  if (list.flow || list.items.length === 0) {
    const close = text.lastIndexOf("]", end);
    return `${text.slice(0, close).trimEnd()}${list.items.length ? ", " : ""}${item}${text.slice(close)}`;
  }
  const margin = text.slice(text.lastIndexOf("\n", start) + 1, start);
  const last = text.slice(0, end).trimEnd();
  return `${last}\n${margin}- ${item}${text.slice(last.length)}`;
}

// except makes a rule of deny hold no more for what was denied: by an exception where there can be one, else by taking out
// what the rule says of it.
function except(text: string, list: YAMLSeq, index: number, d: Denied): Change {
  const item = list.items[index];
  if (!isMap(item) && !isScalar(item)) return { reason: "The policy has no such rule any more." };
  if (isMap(item)) {
    for (const field of ["to", "from", "on"]) {
      const peer = item.get(field);
      if (isMap(peer) && peer.has("cidr"))
        return { text: widenExcept(text, peer, field === "on" ? d.localAddress : d.remoteAddress) };
    }
    for (const [field, value] of [
      ["access", d.operation],
      ["caps", d.subject],
      ["ops", d.operation],
    ] as const) {
      const all = item.get(field);
      if (!isSeq(all) || all.items.length < 2) continue;
      const at = all.items.findIndex((x) => isScalar(x) && String(x.value) === value);
      if (at < 0) continue;
      const rest = all.toJSON().filter((_: unknown, i: number) => i !== at);
      return {
        text: splice(text, all.range!, flow(rest)),
        warning: `The rule says nothing of ${value} then, whatever it was about.`,
      };
    }
  }
  return { text: remove(text, list, index), warning: "This takes the whole rule out: it denies nothing any more." };
}

function widenExcept(text: string, peer: YAMLMap, address: string): string {
  const before = peer.get("except");
  const list = before === undefined ? [] : isSeq(before) ? before.toJSON() : [before];
  return splice(text, peer.range!, flow({ ...peer.toJSON(), except: [...list, address] }));
}

function remove(text: string, list: YAMLSeq, index: number): string {
  if (list.flow) return splice(text, list.range!, flow(list.toJSON().filter((_: unknown, i: number) => i !== index)));
  const range = (list.items[index] as YAMLMap).range!;
  if (list.items.length === 1)
    return `${text.slice(0, text.lastIndexOf(":", range[0] - 1) + 1)} []${text.slice(text.slice(0, range[1]).trimEnd().length)}`;
  const start = text.lastIndexOf("\n", text.lastIndexOf("-", range[0])) + 1;
  const end = text.indexOf("\n", text.slice(0, range[1]).trimEnd().length);
  return text.slice(0, start) + (end < 0 ? "" : text.slice(end + 1));
}

function splice(text: string, range: readonly number[], value: string): string {
  const end = text.slice(0, range[1]).trimEnd().length;
  return text.slice(0, range[0]) + value + text.slice(end);
}
