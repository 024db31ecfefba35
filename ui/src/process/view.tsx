// SPDX-License-Identifier: Apache-2.0

import { timestampFromDate } from "@bufbuild/protobuf/wkt";
import { vigie } from "../api/client";
import { dayAgo } from "../api/recent";
import { useCall } from "../api/use";
import { link } from "../app/route";
import { withTerm } from "../filter/parse";
import { commandLine, line } from "../format/event";
import { ago, clock, count, date } from "../format/units";
import type { Event } from "../gen/vigie/v1/event_pb";
import type { Process } from "../gen/vigie/v1/process_pb";
import { Failure, Loading } from "../parts/empty";
import { Chain } from "./chain";

/** A process: who started it, what it runs, whom it talks to, which files it uses. */
export function ProcessView({ execId, choose }: { execId: string; choose: (execId: string) => void }) {
  const call = useCall(execId, (signal) => vigie.getProcess({ execId }, { signal }));
  const p = call.data?.process;
  if (!p) return call.error ? <Failure error={gone(call.error)} retry={call.reload} /> : <Loading />;
  return (
    <div className="process-view">
      <h2 className="mono">{commandLine(p)}</h2>
      <div className="row">
        <a className="button" href={link("timeline", { f: withTerm("", "exec-id", p.execId), proc: p.execId })}>
          Only this process
        </a>
        <a className="button" href={link("timeline", { f: withTerm("", "pid", String(p.pid)), proc: p.execId })}>
          And what it started
        </a>
      </div>
      <Facts p={p} />
      <section>
        <h3>What led here</h3>
        <Chain ancestors={call.data!.ancestors} process={p} choose={choose} />
      </section>
      {call.data!.children.length > 0 && (
        <section>
          <h3>Started by it, running</h3>
          <ul className="flows">
            {call.data!.children.slice(0, 50).map((c) => (
              <li key={c.execId}>
                <button type="button" className="link mono" onClick={() => choose(c.execId)}>
                  {commandLine(c)}
                </button>{" "}
                <span className="muted">{c.pid}</span>
              </li>
            ))}
          </ul>
        </section>
      )}
      <Deeds
        p={p}
        title="Its connections"
        types={["connect", "accept", "listen", "dns"]}
        none="No connection of it is remembered."
      />
      <Deeds p={p} title="Its files" types={["file"]} none="No file of it is remembered." />
      <Deeds p={p} title="Verdicts and alerts" types={["verdict", "alert"]} none="Nothing was denied or found." />
    </div>
  );
}

function gone(error: string): string {
  return `${error} The agent forgets ended processes after a while; --exited-processes of vigie run says after how many.`;
}

function Facts({ p }: { p: Process }) {
  const facts: [string, string][] = [
    ["Program", p.binary],
    ["Process", `${p.pid}, ${p.endTime ? `ended ${ago(p.endTime)}` : `running, started ${ago(p.startTime)}`}`],
    ["Workload", p.workload ? `${p.workload.name} (${p.workload.kind})` : ""],
    ["User", p.uid === p.euid ? `uid ${p.uid}` : `uid ${p.uid}, acts as ${p.euid}`],
    ["Directory", p.cwd],
    ["Terminal", p.tty],
    ["Capabilities", p.capEffective && `effective ${p.capEffective}`],
    ["Script", p.file?.script ?? ""],
  ];
  return (
    <dl className="facts">
      {facts
        .filter(([, value]) => value)
        .map(([name, value]) => (
          <div key={name} className="fact">
            <dt>{name}</dt>
            <dd>{value}</dd>
          </div>
        ))}
    </dl>
  );
}

/** What a process did of some kind; the same deed is one row. */
function Deeds({ p, title, types, none }: { p: Process; title: string; types: string[]; none: string }) {
  const call = useCall(`${p.execId} ${types}`, async (signal) => {
    const start = date(p.startTime)?.getTime() ?? 0;
    const since = start > Date.now() - 86_400_000 ? timestampFromDate(new Date(start - 1000)) : dayAgo();
    const filter = { types, execIds: [p.execId], since };
    return fold((await vigie.queryEvents({ filter, newestFirst: true, pageSize: 500 }, { signal })).events);
  });
  const rows = call.data ?? [];
  return (
    <section>
      <h3>{title}</h3>
      <Failure error={call.error} />
      {call.data && rows.length === 0 && <p className="muted">{none}</p>}
      <ul className="flows">
        {rows.slice(0, 40).map((r) => (
          <li key={r.key} className="row">
            <span className={r.failed ? "bad" : "muted"}>{r.verb}</span>
            <span className="grow mono">{r.object}</span>
            <span className="muted">
              {r.count > 1 ? `×${count(r.count)}, ` : ""}
              {clock(r.last.time).slice(0, 8)}
            </span>
          </li>
        ))}
      </ul>
      {rows.length > 40 && <p className="muted">and {rows.length - 40} more</p>}
    </section>
  );
}

function fold(events: Event[]) {
  const rows = new Map<
    string,
    { key: string; verb: string; object: string; failed: boolean; count: number; last: Event }
  >();
  for (const e of events) {
    const l = line(e);
    const key = `${l.verb} ${l.object} ${l.failed}`;
    const r = rows.get(key);
    if (r) r.count += e.count;
    else rows.set(key, { key, verb: l.verb, object: l.object, failed: l.failed, count: e.count, last: e });
  }
  return [...rows.values()];
}
