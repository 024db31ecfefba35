// SPDX-License-Identifier: Apache-2.0

import { percent } from "../format/units";
import type { MapEdge } from "../gen/vigie/v1/map_pb";
import { type Column, Table } from "../parts/table";
import { edgeState, type Graph, type Link } from "./graph";
import { edgeRate, errorShare, latency, outcome, portName, traffic } from "./words";

/** The map as a table: a row for each edge. */
export function EdgeTable(props: {
  graph: Graph;
  links: Link[];
  window: number;
  choose: (id: string) => void;
  chosen: string;
}) {
  const { graph, links, window, choose, chosen } = props;
  const name = (id: string) => graph.nodes.get(id)?.name ?? id;
  const link = (id: string) => (
    <button type="button" className="link" onClick={() => choose(id)}>
      {name(id)}
    </button>
  );
  const columns: Column<MapEdge>[] = [
    { name: "From", cell: (e) => link(e.source), sort: (e) => name(e.source) },
    { name: "To", cell: (e) => link(e.destination), sort: (e) => name(e.destination) },
    ...edgeColumns(window),
  ];
  const rows = links.flatMap((l) => l.edges);
  return (
    <div className="scroll as-table">
      <Table
        caption="Who talks to whom"
        columns={columns}
        rows={rows}
        id={(e) => e.id}
        first="Traffic"
        chosen={rows.find((e) => `${e.source} → ${e.destination}` === chosen)?.id}
      />
    </div>
  );
}

/** The columns that say how an edge is doing. */
export function edgeColumns(window: number): Column<MapEdge>[] {
  return [
    { name: "Port", cell: portName, sort: (e) => e.port },
    { name: "Rate", cell: (e) => edgeRate(e, window), sort: (e) => Number(e.requests || e.flows), number: true },
    {
      name: "Traffic",
      cell: (e) => traffic(e, window),
      sort: (e) => Number(e.bytesSent + e.bytesReceived),
      number: true,
      wide: true,
    },
    { name: "Errors", cell: (e) => percent(errorShare(e)), sort: errorShare, number: true, wide: true },
    {
      name: "Latency",
      cell: (e) => latency(e),
      sort: (e) => Number(e.latencyP99Ns || e.rttNs),
      number: true,
      wide: true,
    },
    {
      name: "Verdict",
      cell: (e) => {
        const tone = { allowed: "muted", failed: "warn", audited: "warn", denied: "bad" }[edgeState(e)];
        return (
          <span className={tone}>
            {e.change && <span className={e.change === "new" ? "badge ok" : "badge"}>{e.change}</span>} {outcome(e)}
          </span>
        );
      },
      sort: (e) => Number(e.denied) * 1e6 + Number(e.failed + e.audited),
    },
  ];
}
