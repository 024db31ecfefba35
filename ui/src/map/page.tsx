// SPDX-License-Identifier: Apache-2.0

import { useCallback, useEffect, useMemo, useState } from "react";
import { useRoute } from "../app/route";
import { parse } from "../filter/parse";
import { offerNames } from "../filter/suggest";
import { date, plural } from "../format/units";
import { Empty, Failure, Loading } from "../parts/empty";
import { MapFlow } from "./flow";
import { boxesOf, boxId, type Graph, linksOf, matches } from "./graph";
import { Panel } from "./panel";
import { usePlaces } from "./places";
import { type Source, useMap } from "./source";
import { EdgeTable } from "./table";
import { readTime, TimeBar } from "./time";
import "./map.css";

/** Who talks to whom: now, as it was, or what has changed. */
export default function MapPage() {
  const { params, set } = useRoute();
  const text = params.get("f") ?? "";
  const time = readTime(params);
  const [expand, setExpand] = useState<string[]>([]);
  const chosen = params.get("sel") ?? "";
  const source = useMap({ text, ...time, expand });
  const graph = useMemo(() => (params.get("only") ? changedOnly(source.graph) : source.graph), [source.graph, params]);
  const links = useMemo(() => linksOf(graph), [graph]);
  const boxes = useMemo(() => boxesOf(graph, links), [graph, links]);
  const { places, laid, move, arrange } = usePlaces(graph, boxes, links);
  const seconds = useMemo(() => spanOf(graph, time.window, time.at === undefined), [graph, time.window, time.at]);
  const found = useMemo(() => foundNodes(graph, parse(text).words), [graph, text]);
  const choose = useCallback((id: string) => set({ sel: id }), [set]);
  useEffect(() => offerNames([...graph.nodes.values()].map((n) => name(n))), [graph]);
  const table = params.get("as") === "table";
  const toggle = (id: string) =>
    setExpand((list) => (list.includes(id) ? list.filter((x) => x !== id) : [...list, id]));
  return (
    <div className="full map">
      <div className="bar">
        <h1>Map</h1>
        <Standing source={source} />
        <span className="muted" role="status">
          {plural(boxes.size, "node")}, {plural(links.length, "connection")}
          {graph.leftOut > 0 && `, ${plural(graph.leftOut, "quiet node")} left out`}
          {found && `, ${plural(found.size, "match", "matches")}`}
        </span>
        <span className="grow" />
        <button
          type="button"
          aria-pressed={expand.includes("*")}
          onClick={() => setExpand(expand.includes("*") ? [] : ["*"])}
        >
          Processes
        </button>
        {!table && (
          <button type="button" onClick={arrange} title="Lay out the whole map anew">
            Arrange
          </button>
        )}
        <button type="button" aria-pressed={table} onClick={() => set({ as: table ? undefined : "table" })}>
          Table
        </button>
      </div>
      <Failure error={source.error} retry={source.retry} />
      <div className="stage">
        {boxes.size === 0 ? (
          <Nothing source={source} filtered={text !== ""} />
        ) : table ? (
          <EdgeTable graph={graph} links={links} window={seconds} choose={choose} chosen={chosen} />
        ) : (
          <MapFlow {...{ graph, boxes, links, places, laid, chosen, found, choose, move }} window={seconds} />
        )}
        {chosen && (
          <Panel
            graph={graph}
            links={links}
            window={seconds}
            chosen={chosen}
            choose={choose}
            expanded={expand}
            toggle={toggle}
            text={text}
          />
        )}
      </div>
      <TimeBar completeSince={source.completeSince} comparing={time.before > 0} />
    </div>
  );
}

// spanOf is the time over which there was something to count: less than the window while the agent is young.
function spanOf(g: Graph, window: number, live: boolean): number {
  const first = Math.min(...[...g.edges.values()].map((e) => date(e.firstSeen)?.getTime() ?? 0));
  return live && first > 0 ? Math.max(1, Math.min(window, (Date.now() - first) / 1000)) : window;
}

function name(n: { kind: string; name: string; group: string }) {
  const key =
    n.kind === "external"
      ? /^[\d.:a-f]+$/.test(n.name)
        ? "addr"
        : "name"
      : n.kind === "process"
        ? "binary"
        : "workload";
  return { key, value: n.name, about: n.group } as const;
}

function Standing({ source }: { source: Source }) {
  const words = {
    connecting: "connecting",
    live: "live",
    retrying: "reconnecting",
    ended: "ended",
    past: "past",
    loading: "loading",
  };
  const tone = source.state === "live" ? "ok" : source.state === "retrying" ? "bad" : "accent";
  return <span className={`badge ${tone}`}>{words[source.state]}</span>;
}

function Nothing({ source, filtered }: { source: Source; filtered: boolean }) {
  if (source.error) return <Empty title="No map">The agent has not answered yet.</Empty>;
  if (source.state === "connecting" || source.state === "loading") return <Loading />;
  if (filtered)
    return <Empty title="Nothing passes this filter">Take a term out of it, or look at a longer time.</Empty>;
  return (
    <Empty title="Nobody has talked yet">
      The map draws a line for each pair of workloads that talk over TCP, UDP or ICMP, and one for each place outside.
      Make some traffic: <code>curl http://127.0.0.1:9780/healthz</code>.
    </Empty>
  );
}

function foundNodes(g: Graph, words: string[]): Set<string> | undefined {
  if (!words.length) return undefined;
  const found = new Set<string>();
  for (const n of g.nodes.values()) if (matches(n, words)) found.add(boxId(g, n.id));
  return found;
}

// changedOnly leaves new and vanished edges, and whom they join.
function changedOnly(g: Graph): Graph {
  const edges = new Map([...g.edges].filter(([, e]) => e.change !== ""));
  const ends = new Set(
    [...edges.values()].flatMap((e) => [e.source, e.destination, boxId(g, e.source), boxId(g, e.destination)]),
  );
  return { ...g, edges, nodes: new Map([...g.nodes].filter(([id]) => ends.has(id))) };
}
