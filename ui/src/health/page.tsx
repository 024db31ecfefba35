// SPDX-License-Identifier: Apache-2.0

import { useEffect } from "react";
import { vigie } from "../api/client";
import { useCall } from "../api/use";
import { offerNames } from "../filter/suggest";
import { bytes, count, date, moment, percent, plural, seconds } from "../format/units";
import type { HistoryStatus, LossStatus, SensorStatus, Status, SubscriberStatus } from "../gen/vigie/v1/status_pb";
import { Chart } from "../parts/chart";
import { Empty, Failure, Loading } from "../parts/empty";
import { type Column, Table } from "../parts/table";
import { Nodes } from "./nodes";
import { Programs } from "./programs";
import { lost, type Sample, useSamples } from "./samples";
import "./health.css";

/** How the agent itself is doing: what it lost, what it costs, where it queues. */
export default function HealthPage() {
  const call = useCall("status", async (signal) => (await vigie.getStatus({}, { signal })).status, 2000);
  const health = useCall("health", (signal) => vigie.health({}, { signal }), 5000);
  const samples = useSamples(call.data);
  useEffect(() => offerNames([]), []);
  const s = call.data;
  return (
    <div className="page">
      <div className="row">
        <h1>{s?.nodes.length ? "Health of the nodes" : "Health of the agent"}</h1>
        {health.data && (
          <span className={health.data.ready ? "badge ok" : "badge bad"}>
            {health.data.ready ? "ready" : "not ready"}
          </span>
        )}
      </div>
      <Failure error={call.error} retry={call.reload} />
      {health.data?.problems.map((p) => (
        <p key={p} className="notice">
          {p}
        </p>
      ))}
      {s ? <Sections s={s} samples={samples} /> : !call.error && <Loading />}
    </div>
  );
}

function Sections({ s, samples }: { s: Status; samples: Sample[] }) {
  return (
    <>
      <Headline s={s} samples={samples} />
      {s.nodes.length > 0 && <Nodes nodes={s.nodes} />}
      <div className="pair">
        <Card title="Events a second">
          <Lines samples={samples} name="events" colour="accent" format={count} />
        </Card>
        <Card title="Time of one core">
          <Lines samples={samples} name="cpu" colour="name" format={percent} />
        </Card>
      </div>
      <div className="pair">
        <Losses s={s} />
        <Queues s={s} />
      </div>
      {s.history && <History h={s.history} />}
      <Card title="Sensors">
        <Table<SensorStatus> caption="Sensors" columns={sensorColumns} rows={s.sensors} id={(x) => x.name} />
      </Card>
      <Programs s={s} />
      <Card title="Receivers of events">
        {s.subscribers.length ? (
          <Table<SubscriberStatus>
            caption="Receivers"
            columns={receiverColumns}
            rows={s.subscribers}
            id={(x) => `${x.name} ${x.peer}`}
          />
        ) : (
          <p className="body muted">Nobody follows events at the moment.</p>
        )}
      </Card>
      <Card title="Configuration">
        <Table<[string, string]>
          caption="Configuration in use"
          columns={[
            { name: "Option", cell: ([k]) => <code>--{k}</code>, sort: ([k]) => k },
            { name: "Value", cell: ([, v]) => <span className="mono">{v || "–"}</span> },
          ]}
          rows={Object.entries(s.config).sort(([a], [b]) => (a < b ? -1 : 1))}
          id={([k]) => k}
        />
      </Card>
      <p className="muted">
        <a href="/licenses.md">Licences</a> of the libraries in this page.
      </p>
    </>
  );
}

function Card({ title, children }: { title: string; children: React.ReactNode }) {
  return (
    <section className="card">
      <header>
        <h2>{title}</h2>
      </header>
      {children}
    </section>
  );
}

function Headline({ s, samples }: { s: Status; samples: Sample[] }) {
  const n = lost(s);
  const last = samples.at(-1);
  const store = s.store;
  const facts: [string, string, string][] = [
    ["Lost events", count(n), n ? "bad" : "ok"],
    ["Events a second", last ? count(last.events) : "…", ""],
    ["CPU", last ? `${percent(last.cpu)} of a core` : "…", ""],
    ["Memory", bytes(s.memory?.rss ?? 0), ""],
    ["Kernel maps", bytes(s.memory?.maps ?? 0), ""],
    ["Processes", count(s.processTable?.live ?? 0), ""],
    [
      "History",
      store?.completeSince
        ? `complete since ${moment(date(store.completeSince)!)}`
        : `${count(store?.events ?? 0)} events`,
      "",
    ],
    ["Runs", `${seconds(Number(s.uptimeNs) / 1e9)}, vigie ${s.version}${s.kernel && `, Linux ${s.kernel}`}`, ""],
  ];
  return (
    <dl className="headline card">
      {facts.map(([name, value, tone]) => (
        <div key={name}>
          <dt>{name}</dt>
          <dd className={tone}>{value}</dd>
        </div>
      ))}
    </dl>
  );
}

function Lines(props: {
  samples: Sample[];
  name: "events" | "cpu";
  colour: "accent" | "name";
  format: (n: number) => string;
}) {
  const { samples, name, colour, format } = props;
  if (samples.length < 2) return <p className="body muted">It is measured from now on …</p>;
  const title = name === "events" ? "Events a second" : "Time of one core";
  return (
    <Chart
      title={title}
      times={samples.map((x) => x.time)}
      series={[{ name, colour, values: samples.map((x) => x[name]) }]}
      format={format}
      height={120}
    />
  );
}

function Losses({ s }: { s: Status }) {
  const rows = s.losses.filter((l) => l.count > 0);
  return (
    <Card title="Losses">
      {rows.length ? (
        <Table<LossStatus>
          caption="Losses since the agent started"
          columns={lossColumns}
          rows={rows}
          id={(l) => `${l.stage} ${l.reason}`}
          first="Count"
        />
      ) : (
        <Empty title="Nothing was lost">
          {s.losses.length} places are counted. What one of them loses shows here, and is an event in the timeline.
        </Empty>
      )}
    </Card>
  );
}

function Queues({ s }: { s: Status }) {
  return (
    <Card title="Queues">
      <ul className="queues body">
        {s.queues.map((q) => {
          const show = q.unit === "bytes" ? bytes : count;
          return (
            <li key={q.name}>
              <span className="row">
                <span className="grow">{q.name}</span>
                <span className="muted">
                  {show(q.length)} of {show(q.capacity)}
                </span>
              </span>
              <progress
                className="meter"
                aria-label={`Queue ${q.name}`}
                max={Number(q.capacity) || 1}
                value={Number(q.length)}
              />
            </li>
          );
        })}
        {s.queues.length === 0 && <li className="muted">A replay has none.</li>}
      </ul>
    </Card>
  );
}

function History({ h }: { h: HistoryStatus }) {
  const oldest = date(h.oldest);
  return (
    <Card title="History on disk">
      <ul className="queues body">
        <li>
          <span className="row">
            <span className="grow">
              {plural(Number(h.events), "event")} in {plural(Number(h.segments), "file")} of{" "}
              <span className="mono">{h.directory}</span>
              {oldest && `, since ${moment(oldest)}`}
            </span>
            <span className="muted">
              {bytes(h.bytes)} of {bytes(h.maxBytes)}
            </span>
          </span>
          <progress
            className="meter"
            aria-label="History on disk"
            max={Number(h.maxBytes) || 1}
            value={Number(h.bytes)}
          />
        </li>
        <li className="muted">
          Events are kept for {seconds(Number(h.maxAgeNs) / 1e9)}; a crash loses at most the last{" "}
          {seconds(Number(h.intervalNs) / 1e9)}.
        </li>
      </ul>
    </Card>
  );
}

const lossColumns: Column<LossStatus>[] = [
  { name: "Where", cell: (l) => l.stage, sort: (l) => l.stage },
  { name: "Why", cell: (l) => l.reason, sort: (l) => l.reason },
  {
    name: "Count",
    cell: (l) => <span className="bad">{count(l.count)}</span>,
    sort: (l) => Number(l.count),
    number: true,
  },
];

const sensorColumns: Column<SensorStatus>[] = [
  { name: "Sensor", cell: (x) => x.name },
  {
    name: "State",
    cell: (x) => <span className={`badge ${{ on: "ok", failed: "bad" }[x.state] ?? ""}`}>{x.state}</span>,
  },
  {
    name: "By",
    cell: (x) => (
      <>
        {x.rung}
        {x.message && <span className="warn"> {x.message}</span>}
      </>
    ),
  },
];

const receiverColumns: Column<SubscriberStatus>[] = [
  {
    name: "Receiver",
    cell: (x) => (
      <>
        {x.name} {x.trouble && <span className="bad">{x.trouble}</span>}
      </>
    ),
  },
  { name: "Peer", cell: (x) => x.peer || "–", wide: true },
  { name: "Waiting", cell: (x) => count(x.queued), number: true },
  { name: "Sent", cell: (x) => (x.exporter ? count(x.sent) : "–"), number: true, wide: true },
  { name: "Sent again", cell: (x) => (x.exporter ? count(x.retried) : "–"), number: true, wide: true },
  { name: "Lost", cell: (x) => <span className={x.lost ? "bad" : ""}>{count(x.lost)}</span>, number: true },
];
