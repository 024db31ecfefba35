// SPDX-License-Identifier: Apache-2.0

import { toJson } from "@bufbuild/protobuf";
import { vigie } from "../api/client";
import { useCall } from "../api/use";
import { line } from "../format/event";
import { bytes, date, duration, moment } from "../format/units";
import { type Event, EventSchema } from "../gen/vigie/v1/event_pb";
import { Failure } from "../parts/empty";

/** All that an event says, and what the policies say of it. */
export function EventDetail({ event }: { event: Event }) {
  const l = line(event);
  const facts = flat({ ...(toJson(EventSchema, event, { useProtoFieldName: true }) as object), process: undefined });
  return (
    <section className="card">
      <header>
        <span className={`verb ${l.failed ? "bad" : l.tone}`}>{l.verb}</span>
        <span className="grow mono">{l.object}</span>
      </header>
      <div className="body">
        <dl className="facts">
          <dt>when</dt>
          <dd>{moment(date(event.time) ?? new Date())}</dd>
          {facts.map(([name, value]) => (
            <div key={name} className="fact">
              <dt>{name}</dt>
              <dd className="mono">{value}</dd>
            </div>
          ))}
        </dl>
        {event.seq > 0n && <Policies event={event} />}
      </div>
    </section>
  );
}

function Policies({ event }: { event: Event }) {
  const call = useCall(`${event.node} ${event.seq}`, (signal) =>
    vigie.explainEvent({ seq: event.seq, node: event.node }, { signal }),
  );
  if (!call.data) return <Failure error={call.error && `What the policies say of it: ${call.error}`} />;
  const said = call.data.explanations;
  return (
    <>
      <h3>What the policies say of it</h3>
      {said.length === 0 && <p className="muted">No policy selects this process.</p>}
      <ul>
        {said.map((x) => (
          <li key={x.policy}>
            <span className={x.action === "allowed" ? "badge ok" : x.action === "audited" ? "badge warn" : "badge bad"}>
              {x.action}
            </span>{" "}
            <b>{x.policy}</b> {x.rule} <span className="muted">{x.reason}</span>
          </li>
        ))}
      </ul>
    </>
  );
}

const plain = new Set(["type", "time", "seq", "count", "boot_time_ns"]);

function shown(key: string, value: unknown): string {
  if (key.endsWith("_ns") && key !== "net_ns") return duration(Number(value));
  return key.startsWith("bytes_") || key.endsWith("_bytes") ? bytes(Number(value)) : String(value);
}

// title is the field's name without the message it is in and without its unit: "local address".
function title(name: string): string {
  return name
    .slice(name.indexOf(".") + 1)
    .replace(/(?<!net)_ns$/, "")
    .replaceAll("_", " ");
}

// flat makes "socket.remote_port" of nested fields; what the head says already is left out.
function flat(value: object, prefix = ""): [string, string][] {
  return Object.entries(value).flatMap(([k, v]): [string, string][] => {
    if (v === undefined || (prefix === "" && plain.has(k))) return [];
    const name = prefix ? `${prefix}.${k}` : k;
    if (Array.isArray(v))
      return v.length
        ? [[title(name), v.map((x) => (typeof x === "object" ? JSON.stringify(x) : String(x))).join(", ")]]
        : [];
    if (v !== null && typeof v === "object") return flat(v, prefix ? name : k);
    return [[title(name), shown(k, v)]];
  });
}
