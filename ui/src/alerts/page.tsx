// SPDX-License-Identifier: Apache-2.0

import { useEffect, useState } from "react";
import { useRecent } from "../api/recent";
import { useRoute } from "../app/route";
import { parseForEvents } from "../filter/parse";
import { offerNames } from "../filter/suggest";
import { processName } from "../format/event";
import { ago, count, plural } from "../format/units";
import type { Event } from "../gen/vigie/v1/event_pb";
import { Empty, Failure, Loading } from "../parts/empty";
import { AlertDetail } from "./detail";
import { Detections } from "./detections";
import { severities, tone } from "./severity";
import "../process/process.css";
import "./alerts.css";

/** What the detections found, with the processes that led there. */
export default function AlertsPage() {
  const { params, set } = useRoute();
  const text = params.get("f") ?? "";
  const rules = params.get("as") === "rules";
  const [severity, setSeverity] = useState("");
  const call = useRecent(text, () => {
    const { filter } = parseForEvents(text);
    filter.types = ["alert"];
    return filter;
  });
  const all = (call.events ?? []).filter((e) => e.alert);
  const shown = severity ? all.filter((e) => e.alert!.severity === severity) : all;
  const chosen = all.find((e) => String(e.seq) === params.get("a")) ?? shown[0];
  useEffect(() => offerNames([]), []);
  return (
    <div className="page">
      <div className="row">
        <h1>Alerts</h1>
        {!rules && call.events && <span className="muted">{plural(all.length, "alert")} of the last day</span>}
        <span className="grow" />
        <button type="button" aria-pressed={!rules} onClick={() => set({ as: undefined })}>
          Alerts
        </button>
        <button type="button" aria-pressed={rules} onClick={() => set({ as: "rules" })}>
          Detections
        </button>
      </div>
      {rules ? (
        <Detections />
      ) : (
        <>
          <Failure error={call.error} retry={call.reload} />
          {!call.events && !call.error && <Loading />}
          {all.length > 0 && (
            <fieldset className="row">
              <legend className="hidden">Severity</legend>
              {severities.map((s) => {
                const n = all.filter((e) => e.alert!.severity === s).length;
                return (
                  <button
                    key={s}
                    type="button"
                    disabled={n === 0}
                    aria-pressed={severity === s}
                    onClick={() => setSeverity(severity === s ? "" : s)}
                  >
                    {s} {count(n)}
                  </button>
                );
              })}
            </fieldset>
          )}
          {call.events && all.length === 0 && <Nothing filtered={text !== ""} />}
          {chosen && (
            <div className="alerts">
              <ul className="card" aria-label="Alerts, newest first">
                {shown.map((e) => (
                  <li key={String(e.seq)}>
                    <Row e={e} chosen={e === chosen} choose={() => set({ a: String(e.seq) })} />
                  </li>
                ))}
              </ul>
              <AlertDetail key={String(chosen.seq)} event={chosen} />
            </div>
          )}
        </>
      )}
    </div>
  );
}

function Row({ e, chosen, choose }: { e: Event; chosen: boolean; choose: () => void }) {
  const a = e.alert!;
  return (
    <button type="button" className="alert-row" aria-pressed={chosen} onClick={choose}>
      <span className="row">
        <span className={`badge ${tone(a.severity)}`}>{a.severity}</span>
        <span className="grow muted">{ago(e.time)}</span>
      </span>
      <b>{a.title}</b>
      <span className="muted">
        {processName(e.process)} {e.process?.pid}
        {e.process?.workload?.name && ` · ${e.process.workload.name}`}
        {a.suppressed > 0 && ` · and ${count(a.suppressed)} more held back`}
      </span>
    </button>
  );
}

function Nothing({ filtered }: { filtered: boolean }) {
  return (
    <div className="card">
      {filtered ? (
        <Empty title="No alert passes this filter">Take a term out of it.</Empty>
      ) : (
        <Empty title="Nothing was found">
          The detections look at every event. To see one work, let a web server start a shell, or read a private key by
          another program than its owner's.
        </Empty>
      )}
    </div>
  );
}
