// SPDX-License-Identifier: Apache-2.0

import { base } from "../format/event";
import { count, date, moment, plural } from "../format/units";
import type { SimulatedDenial, SimulatePoliciesResponse } from "../gen/vigie/v1/policy_pb";
import { type Column, Table } from "../parts/table";

/** What policies would have denied of what the agent remembers. */
export function Simulated({ answer }: { answer: SimulatePoliciesResponse }) {
  const since = date(answer.completeSince);
  return (
    <section className="simulated">
      <p className={answer.denials.length ? "notice" : "notice ok"} role="status">
        {answer.denials.length
          ? `It would have denied ${plural(answer.denials.length, "thing")} of ${plural(Number(answer.judged), "event")}`
          : `It would have denied nothing of ${plural(Number(answer.judged), "event")}`}
        {since && `; nothing is missing since ${moment(since)}`}.
      </p>
      {answer.denials.length > 0 && (
        <Table<SimulatedDenial>
          caption="What would have been denied"
          columns={columns}
          rows={answer.denials}
          id={(d) => [d.policy, d.rule, d.workload, d.binary, d.operation, d.object].join(" ")}
          page={20}
        />
      )}
      {answer.limits.length > 0 && <p className="muted">Not judged: {answer.limits.join("; ")}.</p>}
    </section>
  );
}

const columns: Column<SimulatedDenial>[] = [
  { name: "Times", cell: (d) => count(d.count), sort: (d) => Number(d.count), number: true },
  { name: "Who", cell: (d) => `${base(d.binary)} ${d.workload}`.trim() },
  {
    name: "What",
    cell: (d) => (
      <>
        {d.operation} <span className="mono">{d.object}</span>
      </>
    ),
  },
  { name: "Rule", cell: (d) => <span className="mono">{d.rule}</span>, wide: true },
];
