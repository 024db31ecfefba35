// SPDX-License-Identifier: Apache-2.0

import { count, date, duration, seconds } from "../format/units";
import type { NodeStatus } from "../gen/vigie/v1/status_pb";
import { type Column, Table } from "../parts/table";

/** How each node is doing, when a relay answers for several. */
export function Nodes({ nodes }: { nodes: NodeStatus[] }) {
  const connected = nodes.filter((n) => n.state === "connected").length;
  return (
    <section className="card">
      <header>
        <h2>
          Nodes: {connected} of {nodes.length} connected
        </h2>
      </header>
      <Table<NodeStatus> caption="Nodes" columns={columns} rows={nodes} id={(n) => `${n.name} ${n.address}`} />
    </section>
  );
}

const columns: Column<NodeStatus>[] = [
  { name: "Node", cell: (n) => n.name, sort: (n) => n.name },
  {
    name: "State",
    cell: (n) => <span className={`badge ${n.state === "connected" ? "ok" : "bad"}`}>{n.state}</span>,
    sort: (n) => n.state,
  },
  { name: "Since", cell: (n) => seconds((Date.now() - (date(n.since)?.getTime() ?? Date.now())) / 1e3), wide: true },
  { name: "Agent", cell: (n) => n.version || "–", sort: (n) => n.version, wide: true },
  { name: "Clock", cell: clock, sort: (n) => Math.abs(Number(n.clockOffsetNs)), number: true, wide: true },
  { name: "Events", cell: (n) => count(n.events), sort: (n) => Number(n.events), number: true },
  {
    name: "Lost",
    cell: (n) => <span className={n.lost ? "bad" : ""}>{count(n.lost)}</span>,
    sort: (n) => Number(n.lost),
    number: true,
  },
  { name: "Note", cell: (n) => [n.message, ...n.problems].filter(Boolean).join("; ") },
];

// clock is by how much a node's clock is off; nothing where the measurement does not tell more.
function clock(n: NodeStatus): string {
  const off = Number(n.clockOffsetNs);
  if (Math.abs(off) <= Number(n.clockUncertaintyNs)) return "–";
  return (off > 0 ? "+" : "−") + duration(Math.abs(off));
}
