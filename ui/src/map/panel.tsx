// SPDX-License-Identifier: Apache-2.0

import { vigie } from "../api/client";
import { useCall } from "../api/use";
import { link as pageLink, useRoute } from "../app/route";
import { parse, withTerm } from "../filter/parse";
import { address, base, endName } from "../format/event";
import { bytes, duration } from "../format/units";
import type { Event } from "../gen/vigie/v1/event_pb";
import type { MapEdge, MapNode } from "../gen/vigie/v1/map_pb";
import { Failure } from "../parts/empty";
import { Table } from "../parts/table";
import type { Graph, Link } from "./graph";
import { edgeColumns } from "./table";
import { readTime } from "./time";
import { about } from "./words";

interface Props {
  graph: Graph;
  links: Link[];
  window: number;
  chosen: string;
  choose: (id: string) => void;
  expanded: string[];
  toggle: (id: string) => void;
  text: string;
}

/** What is known of the chosen box or line: its connections by port, and the conversations that are open now. */
export function Panel(props: Props) {
  const { graph, links, chosen, choose } = props;
  const node = graph.nodes.get(chosen);
  const line = links.find((l) => l.id === chosen);
  return (
    <aside className="panel" aria-label="Chosen on the map">
      <header>
        {node ? (
          <NodeHead node={node} {...props} />
        ) : line ? (
          <LineHead line={line} {...props} />
        ) : (
          <p className="grow muted">It is not on the map any more.</p>
        )}
        <button type="button" className="plain" onClick={() => choose("")} aria-label="Close">
          ✕
        </button>
      </header>
      {node && <NodeBody node={node} {...props} />}
      {line && <LineBody line={line} {...props} />}
    </aside>
  );
}

function NodeHead({ node }: { node: MapNode }) {
  return (
    <div className="grow">
      <h2>{node.name}</h2>
      <p className="muted">
        {about(node)}
        {node.group && node.kind !== "external" && ` in ${node.group}`}
        {node.node && ` on ${node.node}`}
      </p>
    </div>
  );
}

function LineHead({ line, graph }: Props & { line: Link }) {
  return (
    <div className="grow">
      <h2>
        {graph.nodes.get(line.source)?.name} → {graph.nodes.get(line.destination)?.name}
      </h2>
    </div>
  );
}

/** The filter that shows what a node did, in the time of the map where that is over. */
function useOnly(): (node: MapNode) => string {
  const { at, window } = readTime(useRoute().params);
  const time = at ? ` since:${new Date(at.getTime() - window * 1000).toISOString()} until:${at.toISOString()}` : "";
  return (node) => only(node) + time;
}

function only(node: MapNode): string {
  switch (node.kind) {
    case "external":
      return node.addresses.length ? withTerm("", "addr", node.addresses.join(",")) : withTerm("", "name", node.name);
    case "process":
      return withTerm("", "exec-id", node.process?.execId ?? "");
    default:
      return withTerm("", "workload", node.workload?.name || node.name);
  }
}

function NodeBody(props: Props & { node: MapNode }) {
  const { node, graph, links, choose, expanded, toggle, window } = props;
  const did = useOnly();
  const inside = new Set([node.id, ...[...graph.nodes.values()].filter((n) => n.parent === node.id).map((n) => n.id)]);
  const out = links.filter((l) => inside.has(l.source));
  const into = links.filter((l) => inside.has(l.destination) && !inside.has(l.source));
  const open = expanded.includes(node.id) || expanded.includes("*");
  const w = node.workload;
  return (
    <div className="body">
      <div className="row">
        {node.kind === "workload" && (
          <button type="button" aria-pressed={open} onClick={() => toggle(node.id)}>
            {open ? "Hide processes" : "Show processes"}
          </button>
        )}
        <a className="button" href={pageLink("timeline", { f: did(node), proc: node.process?.execId })}>
          Timeline
        </a>
        {node.kind === "workload" && (
          <a className="button" href={pageLink("policies", { learn: w?.name || node.name })}>
            Learn a policy
          </a>
        )}
      </div>
      <dl className="facts">
        {w?.controller && <Fact name={w.controller.kind} value={w.controller.name} />}
        {w?.serviceAccount && <Fact name="Service account" value={w.serviceAccount} />}
        {w?.node && <Fact name="Node" value={w.node} />}
        {w?.image && <Fact name="Image" value={w.image} />}
        {w?.user && <Fact name="User" value={w.user} />}
        {node.process && <Fact name="Program" value={`${node.process.binary} (${node.process.pid})`} />}
        {node.addresses.length > 0 && <Fact name="Addresses" value={node.addresses.join(", ")} />}
      </dl>
      <Ends title="Talks to" links={out} end={(e) => e.destination} {...{ graph, choose, window }} />
      <Ends title="Is talked to by" links={into} end={(e) => e.source} {...{ graph, choose, window }} />
      <OpenFlows filter={only(node)} />
    </div>
  );
}

function Fact({ name, value }: { name: string; value: string }) {
  return (
    <>
      <dt>{name}</dt>
      <dd>{value}</dd>
    </>
  );
}

function Ends(props: {
  title: string;
  links: Link[];
  end: (e: MapEdge) => string;
  graph: Graph;
  choose: (id: string) => void;
  window: number;
}) {
  const { title, links, end, graph, choose, window } = props;
  if (!links.length) return null;
  const columns = edgeColumns(window).filter((c) => ["Port", "Rate", "Verdict"].includes(c.name));
  return (
    <section>
      <h3>{title}</h3>
      <Table<MapEdge>
        caption={title}
        columns={[
          {
            name: "Who",
            cell: (e) => (
              <button type="button" className="link" onClick={() => choose(`${e.source} → ${e.destination}`)}>
                {graph.nodes.get(end(e))?.name}
              </button>
            ),
          },
          ...columns,
        ]}
        rows={links.flatMap((l) => l.edges)}
        id={(e) => e.id}
        page={30}
      />
    </section>
  );
}

function LineBody({ line, graph, window }: Props & { line: Link }) {
  const did = useOnly();
  const source = graph.nodes.get(line.source);
  const destination = graph.nodes.get(line.destination);
  return (
    <div className="body">
      <div className="row">
        {source && (
          <a
            className="button"
            href={pageLink("timeline", { f: `${did(source)} type:connect,close,flow,request,verdict` })}
          >
            Timeline
          </a>
        )}
      </div>
      <Table<MapEdge> caption="By port" columns={edgeColumns(window)} rows={line.edges} id={(e) => e.id} />
      {source && <OpenFlows filter={only(source)} to={destination} />}
    </div>
  );
}

/** The conversations that are open now, each with the process that has it. */
function OpenFlows({ filter, to }: { filter: string; to?: MapNode | undefined }) {
  const flows = useCall(
    filter,
    async (signal) => (await vigie.listFlows({ filter: parse(filter).filter, limit: 200 }, { signal })).flows,
    5000,
  );
  const rows = (flows.data ?? []).filter((e) => !to || goesTo(e, to)).slice(0, 30);
  return (
    <section>
      <h3>Open now</h3>
      <Failure error={flows.error} />
      {flows.data && rows.length === 0 && <p className="muted">No conversation is open.</p>}
      <ul className="flows">
        {rows.map((e) => (
          <li key={String(e.flow?.id)}>
            <FlowRow event={e} />
          </li>
        ))}
      </ul>
    </section>
  );
}

function FlowRow({ event }: { event: Event }) {
  const f = event.flow!;
  const p = event.process;
  return (
    <>
      <a href={pageLink("timeline", { f: withTerm("", "exec-id", p?.execId ?? ""), proc: p?.execId })}>
        {p ? `${base(p.binary)} (${p.pid})` : "?"}
      </a>{" "}
      {f.direction === "inbound" ? "from" : "to"}{" "}
      {f.direction === "inbound" ? endName(f.source) : endName(f.destination)}{" "}
      <span className="muted">
        {f.protocol} {address(f.destination?.address ?? "", f.destination?.port ?? 0)} · ↑{" "}
        {bytes(f.total?.bytesSent ?? 0)} ↓ {bytes(f.total?.bytesReceived ?? 0)}
        {f.srttNs > 0 && ` · rtt ${duration(f.srttNs)}`}
      </span>
    </>
  );
}

function goesTo(e: Event, n: MapNode): boolean {
  const d = e.flow?.destination;
  if (n.kind === "external")
    return d !== undefined && (d.name === n.name || n.addresses.includes(d.address) || d.address === n.name);
  if (n.kind === "process") return d?.process?.execId === n.process?.execId;
  return d?.workload?.name === (n.workload?.name || n.name);
}
