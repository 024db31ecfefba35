// SPDX-License-Identifier: Apache-2.0

import { useEffect, useMemo, useState } from "react";
import { useRoute } from "../app/route";
import { offerNames } from "../filter/suggest";
import { processName } from "../format/event";
import { Empty, Failure, Loading } from "../parts/empty";
import { ProcessTree } from "../process/tree";
import { ProcessView } from "../process/view";
import { EventDetail } from "./detail";
import { type Entry, useFeed } from "./feed";
import { EventList } from "./list";
import { Rates } from "./rates";
import "../process/process.css";
import "./timeline.css";

const kinds: Record<string, string[]> = {
  Processes: ["exec", "exec_failed", "exit", "fork"],
  Files: ["file"],
  Network: ["connect", "accept", "listen", "close"],
  Flows: ["flow", "request"],
  Names: ["dns"],
  Privileges: ["credential", "namespace", "ptrace", "module", "bpf", "mount", "capability"],
  Decisions: ["verdict", "alert", "probe"],
};

/** What happened, as it happens, with the processes that did it beside it. */
export default function TimelinePage() {
  const { params, set } = useRoute();
  const text = params.get("f") ?? "";
  const wanted = params.get("kind") ?? "";
  const kind = useMemo(() => wanted.split(",").filter((k) => k in kinds), [wanted]);
  const types = useMemo(() => kind.flatMap((k) => kinds[k]!), [kind]);
  const feed = useFeed(text, types);
  const [chosen, setChosen] = useState<Entry>();
  const proc = params.get("proc") ?? "";
  const choose = (e: Entry) => {
    setChosen(e);
    set({ proc: e.event.process?.execId });
  };
  const chooseProcess = (execId: string) => {
    setChosen(undefined);
    set({ proc: execId });
  };
  useEffect(() => offerNames(names(feed.entries)), [feed.entries]);
  const turn = (k: string) => set({ kind: (kind.includes(k) ? kind.filter((x) => x !== k) : [...kind, k]).join() });
  return (
    <div className="full timeline">
      <div className="bar">
        <h1>Timeline</h1>
        <span className={feed.state === "live" ? "badge ok" : feed.state === "retrying" ? "badge bad" : "badge accent"}>
          {feed.state === "retrying" ? "reconnecting" : feed.state}
        </span>
        <fieldset className="row">
          <legend className="hidden">Kinds of event</legend>
          {Object.keys(kinds).map((k) => (
            <button key={k} type="button" aria-pressed={kind.includes(k)} onClick={() => turn(k)}>
              {k}
            </button>
          ))}
        </fieldset>
      </div>
      <Failure error={feed.error} />
      {feed.missing.length > 0 && (
        <p className="notice">
          {feed.missing.length === 1 ? "A node does not answer" : `${feed.missing.length} nodes do not answer`}: nothing
          comes of {feed.missing.slice(0, 5).join(", ")}
          {feed.missing.length > 5 && " and others"}. What they see comes when they are back.
        </p>
      )}
      <div className="split">
        <div className="left">
          <Rates entries={feed.entries} />
          {feed.entries.length === 0 ? (
            <Nothing feed={feed} filtered={text !== "" || kind.length > 0} />
          ) : (
            <EventList entries={feed.entries} chosen={chosen?.id} choose={choose} />
          )}
        </div>
        <aside className={proc || chosen ? "right open" : "right"} aria-label="Process">
          {proc || chosen ? (
            <>
              <button
                type="button"
                className="back"
                onClick={() => {
                  setChosen(undefined);
                  set({ proc: undefined });
                }}
              >
                ← All processes
              </button>
              {chosen && <EventDetail event={chosen.event} />}
              {proc && <ProcessView execId={proc} choose={chooseProcess} />}
            </>
          ) : (
            <>
              <h2>What runs</h2>
              <ProcessTree text={text} chosen={proc} choose={chooseProcess} />
            </>
          )}
        </aside>
      </div>
    </div>
  );
}

function names(entries: Entry[]) {
  const seen = new Map<string, { key: "workload" | "binary"; value: string; about: string }>();
  for (const { event } of entries.slice(0, 1000)) {
    const p = event.process;
    if (p?.workload?.name)
      seen.set(`w ${p.workload.name}`, { key: "workload", value: p.workload.name, about: p.workload.kind });
    if (p?.binary) seen.set(`b ${p.binary}`, { key: "binary", value: processName(p), about: p.binary });
  }
  return [...seen.values()];
}

function Nothing({ feed, filtered }: { feed: { state: string }; filtered: boolean }) {
  if (feed.state === "connecting") return <Loading />;
  if (feed.state === "retrying") return <Empty title="No events">The agent does not answer at the moment.</Empty>;
  if (filtered)
    return (
      <Empty title="Nothing yet that passes this filter">
        It is applied as things happen. Take a term out of it, or do something that passes it.
      </Empty>
    );
  return (
    <Empty title="Nothing has happened yet">
      Run a command on this host: each exec, file and connection shows here.
    </Empty>
  );
}
