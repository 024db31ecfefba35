// SPDX-License-Identifier: Apache-2.0

import { create } from "@bufbuild/protobuf";
import { useState } from "react";
import { explain, vigie } from "../api/client";
import { useRecent } from "../api/recent";
import { link } from "../app/route";
import { processName, verdictObject } from "../format/event";
import { ago, count, date, moment, plural } from "../format/units";
import type { Event } from "../gen/vigie/v1/event_pb";
import { FilterSchema } from "../gen/vigie/v1/filter_pb";
import type { Policy, PolicyRule } from "../gen/vigie/v1/policy_pb";
import { Failure } from "../parts/empty";
import { type Column, Table } from "../parts/table";
import { allow } from "./allow";
import type { Draft } from "./editor";
import { guarantee, state } from "./words";

interface Props {
  p: Policy;
  edit: (d: Draft) => void;
  changed: () => void;
}

/** One policy: each rule with what carries it here, and what it denied lately. */
export function PolicyDetail({ p, edit, changed }: Props) {
  const [error, setError] = useState<string>();
  const run = async (what: () => Promise<unknown>) => {
    setError(undefined);
    try {
      await what();
    } catch (err) {
      setError(explain(err));
    }
    changed();
  };
  const other = p.mode === "enforce" ? "audit" : "enforce";
  return (
    <article className="policy">
      <section className="card">
        <header>
          <h2 className="grow">{p.name}</h2>
          <span className={`badge ${state(p)}`}>{p.state}</span>
          <span className="badge">{p.kind}</span>
          {p.mode && (
            <button type="button" onClick={() => run(() => vigie.setPolicyMode({ name: p.name, mode: other }))}>
              {other === "enforce" ? "Enforce" : "Watch only"}
            </button>
          )}
          {p.yaml && (
            <button type="button" onClick={() => edit({ title: `Change ${p.name}`, before: p.yaml, after: p.yaml })}>
              Change
            </button>
          )}
          {p.source === "api" && <Delete name={p.name} run={run} />}
        </header>
        <div className="body">
          <Failure error={error} />
          {p.message && <p className="notice">{p.message}</p>}
          <dl className="facts">
            <dt>Mode</dt>
            <dd>
              {p.mode === "enforce"
                ? "enforce: what it denies does not happen"
                : "audit: it watches and denies nothing"}
            </dd>
            <dt>Selects</dt>
            <dd>
              {p.selector || "everything"}: {plural(p.processes, "running process", "running processes")}
              {p.workloads.length > 0 && ` of ${p.workloads.join(", ")}`}
            </dd>
            <dt>From</dt>
            <dd>
              {p.source === "api" ? "the API" : p.source}
              {p.applied && `, in force since ${moment(date(p.applied)!)}`}
            </dd>
          </dl>
        </div>
      </section>
      <section className="card">
        <header>
          <h2>Rules</h2>
          <span className="muted">and what each is worth on this kernel</span>
        </header>
        <Table<PolicyRule> caption={`Rules of ${p.name}`} columns={ruleColumns} rows={p.rules} id={(r) => r.field} />
      </section>
      <Denials p={p} edit={edit} />
    </article>
  );
}

const ruleColumns: Column<PolicyRule>[] = [
  {
    name: "Rule",
    cell: (r) => (
      <>
        {r.text || r.field}
        <br />
        <span className="muted mono">{r.field}</span>
      </>
    ),
  },
  {
    name: "Worth",
    cell: (r) =>
      r.guarantee ? (
        <span className={`badge ${guarantee(r.guarantee)}`}>{r.guarantee}</span>
      ) : (
        <span className="muted">allows</span>
      ),
    sort: (r) => r.guarantee,
  },
  {
    name: "Carried by",
    cell: (r) => (
      <>
        {r.rung}
        {r.limits.map((l) => (
          <span key={l} className="limit muted">
            not covered: {l}
          </span>
        ))}
      </>
    ),
    wide: true,
  },
  { name: "Hits", cell: (r) => count(r.hits), sort: (r) => Number(r.hits), number: true },
];

function Denials({ p, edit }: { p: Policy; edit: (d: Draft) => void }) {
  const call = useRecent(p.name, () =>
    create(FilterSchema, { types: ["verdict"], where: `verdict.policy == ${JSON.stringify(p.name)}` }),
  );
  const rows = fold(call.events ?? []);
  const [refused, setRefused] = useState<string>();
  const open = (e: Event) => {
    const v = e.verdict!;
    const change = allow(p.yaml, { ...v, binary: e.process?.binary ?? "" });
    setRefused("reason" in change ? change.reason : undefined);
    if ("text" in change) {
      const what = `${processName(e.process)}: ${v.operation} ${verdictObject(v)}`;
      edit({ title: `Allow ${what}`, before: p.yaml, after: change.text, warning: change.warning });
    }
  };
  const columns: Column<Denial>[] = [
    { name: "Last", cell: (d) => ago(d.event.time), number: true, wide: true },
    { name: "Times", cell: (d) => count(d.count), sort: (d) => d.count, number: true },
    {
      name: "Who",
      cell: ({ event: e }) => (
        <a href={link("timeline", { proc: e.process?.execId, f: `exec-id:${e.process?.execId ?? ""}` })}>
          {processName(e.process)}
          {e.process?.workload?.name && <span className="muted"> {e.process.workload.name}</span>}
        </a>
      ),
    },
    {
      name: "What",
      cell: ({ event: e }) => (
        <>
          <span className={e.verdict!.action === "audited" ? "warn" : "bad"}>{e.verdict!.action}</span>{" "}
          {e.verdict!.operation} <span className="mono">{verdictObject(e.verdict!)}</span>
        </>
      ),
    },
    { name: "Rule", cell: (d) => <span className="mono rule">{d.event.verdict!.rule}</span>, wide: true },
    {
      name: "Change",
      cell: (d) => (
        <button type="button" onClick={() => open(d.event)}>
          Allow this …
        </button>
      ),
    },
  ];
  return (
    <section className="card">
      <header>
        <h2>{p.mode === "enforce" ? "Denied lately" : "Would be denied"}</h2>
      </header>
      <Failure error={call.error ?? refused} />
      {call.events && rows.length === 0 ? (
        <p className="body muted">Nothing in the last day. What it allows is not written down.</p>
      ) : (
        <Table<Denial> caption="Recent denials" columns={columns} rows={rows} id={(d) => d.key} page={50} />
      )}
    </section>
  );
}

interface Denial {
  key: string;
  event: Event;
  count: number;
}

function fold(events: Event[]): Denial[] {
  const rows = new Map<string, Denial>();
  for (const event of events) {
    const v = event.verdict;
    if (!v) continue;
    const key = [v.rule, v.operation, event.process?.binary, verdictObject(v)].join(" ");
    const r = rows.get(key);
    if (r) r.count += event.count;
    else rows.set(key, { key, event, count: event.count });
  }
  return [...rows.values()];
}

function Delete({ name, run }: { name: string; run: (what: () => Promise<unknown>) => Promise<void> }) {
  const [sure, setSure] = useState(false);
  if (!sure)
    return (
      <button type="button" className="danger" onClick={() => setSure(true)}>
        Delete
      </button>
    );
  return (
    <button
      type="button"
      className="danger"
      onBlur={() => setSure(false)}
      onClick={() => run(() => vigie.deletePolicy({ name }))}
    >
      Really delete
    </button>
  );
}
