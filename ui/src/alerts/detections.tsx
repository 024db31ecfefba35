// SPDX-License-Identifier: Apache-2.0

import { vigie } from "../api/client";
import { useCall } from "../api/use";
import { count } from "../format/units";
import type { Detection } from "../gen/vigie/v1/policy_pb";
import { Failure, Loading } from "../parts/empty";
import { type Column, Table } from "../parts/table";
import { severities, tone } from "./severity";

/** The detections that run, each with how often it found something. */
export function Detections() {
  const call = useCall("detections", async (signal) => (await vigie.listDetections({}, { signal })).detections, 10_000);
  if (!call.data) return call.error ? <Failure error={call.error} retry={call.reload} /> : <Loading />;
  return (
    <section className="card">
      <Table<Detection> caption="Detections" columns={columns} rows={call.data} id={(d) => d.id} first="Alerts" />
    </section>
  );
}

const columns: Column<Detection>[] = [
  {
    name: "Detection",
    cell: (d) => (
      <>
        {d.title}
        {d.disabled && <span className="badge"> off</span>}
        <br />
        <span className="muted mono">{d.id}</span>
      </>
    ),
    sort: (d) => d.id,
  },
  {
    name: "Severity",
    cell: (d) => <span className={`badge ${tone(d.severity)}`}>{d.severity}</span>,
    sort: (d) => severities.indexOf(d.severity),
  },
  { name: "Looks at", cell: (d) => d.types.join(", "), wide: true },
  { name: "Tags", cell: (d) => d.tags.join(", "), wide: true },
  { name: "Alerts", cell: (d) => count(d.alerts), sort: (d) => Number(d.alerts), number: true },
  { name: "Held back", cell: (d) => count(d.suppressed), sort: (d) => Number(d.suppressed), number: true, wide: true },
  { name: "Errors", cell: (d) => count(d.errors), sort: (d) => Number(d.errors), number: true, wide: true },
];
