// SPDX-License-Identifier: Apache-2.0

import { count, duration, percent } from "../format/units";
import type { Status } from "../gen/vigie/v1/status_pb";
import { type Column, Table } from "../parts/table";

interface Program {
  sensor: string;
  name: string;
  id: number;
  runs: number;
  ns: number;
  share: number; // of one core, since the agent started
}

/** What each program in the kernel has cost. */
export function Programs({ s }: { s: Status }) {
  const rows = s.sensors.flatMap((sensor) =>
    sensor.programs.map((p): Program => {
      const ns = Number(p.runTimeNs);
      return {
        sensor: sensor.name,
        name: p.name,
        id: p.id,
        runs: Number(p.runCount),
        ns,
        share: ns / Math.max(1, Number(s.uptimeNs)),
      };
    }),
  );
  const measured = rows.some((r) => r.runs > 0);
  return (
    <section className="card">
      <header>
        <h2>Programs in the kernel</h2>
        {measured && (
          <span className="muted">{percent(rows.reduce((n, r) => n + r.share, 0))} of one core since the start</span>
        )}
      </header>
      {!measured && rows.length > 0 && (
        <p className="body muted">
          The kernel does not measure them now. Start the agent with <code>--program-stats</code> to see what each
          costs.
        </p>
      )}
      <Table<Program>
        caption="Programs in the kernel"
        columns={columns}
        rows={rows}
        id={(r) => String(r.id)}
        first="Of a core"
        page={12}
      />
    </section>
  );
}

const columns: Column<Program>[] = [
  { name: "Program", cell: (r) => <code>{r.name}</code>, sort: (r) => r.name },
  { name: "Sensor", cell: (r) => r.sensor, sort: (r) => r.sensor, wide: true },
  { name: "Runs", cell: (r) => count(r.runs), sort: (r) => r.runs, number: true },
  {
    name: "Each",
    cell: (r) => (r.runs ? duration(r.ns / r.runs) : "–"),
    sort: (r) => (r.runs ? r.ns / r.runs : 0),
    number: true,
  },
  { name: "Of a core", cell: (r) => percent(r.share), sort: (r) => r.share, number: true },
];
