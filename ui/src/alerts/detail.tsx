// SPDX-License-Identifier: Apache-2.0

import { vigie } from "../api/client";
import { useCall } from "../api/use";
import { link } from "../app/route";
import { line } from "../format/event";
import { date, moment } from "../format/units";
import type { Event } from "../gen/vigie/v1/event_pb";
import { Failure } from "../parts/empty";
import { Chain } from "../process/chain";
import { tone } from "./severity";

/** One alert: what was found, what raised it, and the chain of processes that led there. */
export function AlertDetail({ event }: { event: Event }) {
  const a = event.alert!;
  const p = event.process;
  const family = useCall(p?.execId ? p.execId : null, (signal) => vigie.getProcess({ execId: p!.execId }, { signal }));
  const cause = useCall(
    a.eventSeq ? String(a.eventSeq) : null,
    async (signal) => (await vigie.explainEvent({ seq: a.eventSeq }, { signal })).event,
  );
  const did = cause.data && line(cause.data);
  return (
    <article className="card alert">
      <header>
        <h2 className="grow">{a.title}</h2>
        <span className={`badge ${tone(a.severity)}`}>{a.severity}</span>
        {a.action === "kill" && <span className="badge bad">killed</span>}
      </header>
      <div className="body">
        <p className="message">{a.message}</p>
        <dl className="facts">
          <dt>When</dt>
          <dd>{moment(date(event.time) ?? new Date())}</dd>
          <dt>Detection</dt>
          <dd className="mono">{a.rule}</dd>
          {a.tags.length > 0 && (
            <>
              <dt>Tags</dt>
              <dd className="row">
                {a.tags.map((t) => (
                  <span key={t} className="badge">
                    {t}
                  </span>
                ))}
              </dd>
            </>
          )}
          {did && (
            <>
              <dt>Raised by</dt>
              <dd>
                <span className={`verb ${did.tone}`}>{did.verb}</span> <span className="mono">{did.object}</span>{" "}
                <span className="muted">{did.detail}</span>
              </dd>
            </>
          )}
        </dl>
        <section>
          <h3>What led here</h3>
          {family.data?.process ? (
            <Chain ancestors={family.data.ancestors} process={family.data.process} alarm />
          ) : p ? (
            <Chain ancestors={[]} process={p} alarm />
          ) : (
            <p className="muted">The process is not known.</p>
          )}
          <Failure error={family.error && `Its ancestors: ${family.error}`} />
        </section>
        {p && (
          <div className="row">
            <a className="button" href={link("timeline", { f: `pid:${p.pid}`, proc: p.execId })}>
              What it did
            </a>
            {p.workload?.name && (
              <a className="button" href={link("map", { f: `workload:${p.workload.name}` })}>
                Its workload on the map
              </a>
            )}
          </div>
        )}
      </div>
    </article>
  );
}
