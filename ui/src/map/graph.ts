// SPDX-License-Identifier: Apache-2.0

import type { MapEdge, MapNode, StreamMapResponse } from "../gen/vigie/v1/map_pb";

/** The map as the agent has told it so far. A new one is made for each change. */
export interface Graph {
  nodes: Map<string, MapNode>;
  edges: Map<string, MapEdge>;
  leftOut: number;
}

/** A map of nothing. */
export const nothing: Graph = { nodes: new Map(), edges: new Map(), leftOut: 0 };

/** The map after a message of the stream. */
export function apply(g: Graph, m: StreamMapResponse): Graph {
  const nodes = new Map(m.whole ? [] : g.nodes);
  const edges = new Map(m.whole ? [] : g.edges);
  for (const id of m.removedNodes) nodes.delete(id);
  for (const id of m.removedEdges) edges.delete(id);
  for (const n of m.nodes) nodes.set(n.id, n);
  for (const e of m.edges) edges.set(e.id, e);
  return { nodes, edges, leftOut: m.nodesLeftOut };
}

/** How a connection is doing, the worst last. */
export const states = ["allowed", "failed", "audited", "denied"] as const;
export type State = (typeof states)[number];

/** What one edge tells. */
export function edgeState(e: MapEdge): State {
  if (e.denied) return "denied";
  if (e.audited) return "audited";
  return e.failed || e.requestErrors ? "failed" : "allowed";
}

/** All that one node said to another, over all ports: what is drawn as one line. */
export interface Link {
  id: string;
  source: string;
  destination: string;
  edges: MapEdge[];
  flows: number;
  bytes: number;
  state: State;
  change: string; // new or vanished when all of it is
}

/** The lines of a map. An end at a node that was left out has none. */
export function linksOf(g: Graph): Link[] {
  const links = new Map<string, Link>();
  for (const e of g.edges.values()) {
    if (!g.nodes.has(e.source) || !g.nodes.has(e.destination)) continue;
    const id = `${e.source} → ${e.destination}`;
    let l = links.get(id);
    if (!l) {
      l = {
        id,
        source: e.source,
        destination: e.destination,
        edges: [],
        flows: 0,
        bytes: 0,
        state: "allowed",
        change: e.change,
      };
      links.set(id, l);
    }
    l.edges.push(e);
    l.flows += Number(e.flows);
    l.bytes += Number(e.bytesSent + e.bytesReceived);
    if (e.change !== l.change) l.change = "";
    const s = edgeState(e);
    if (states.indexOf(s) > states.indexOf(l.state)) l.state = s;
  }
  return [...links.values()];
}

/** A box on the map: a workload or a place outside, with the processes of it that are shown one by one. */
export interface Box {
  node: MapNode;
  processes: MapNode[];
  flows: number;
  bytes: number;
  state: State;
}

/** The boxes of a map, in its order. */
export function boxesOf(g: Graph, links: Link[]): Map<string, Box> {
  const boxes = new Map<string, Box>();
  for (const node of g.nodes.values()) {
    if (!node.parent) boxes.set(node.id, { node, processes: [], flows: 0, bytes: 0, state: "allowed" });
  }
  for (const node of g.nodes.values()) {
    if (!node.parent) continue;
    const b = boxes.get(node.parent);
    if (b) b.processes.push(node);
    else boxes.set(node.id, { node, processes: [], flows: 0, bytes: 0, state: "allowed" });
  }
  for (const l of links) {
    for (const id of new Set([boxId(g, l.source), boxId(g, l.destination)])) {
      const b = boxes.get(id);
      if (!b) continue;
      b.flows += l.flows;
      b.bytes += l.bytes;
      if (states.indexOf(l.state) > states.indexOf(b.state)) b.state = l.state;
    }
  }
  return boxes;
}

/** The box in which a node is. */
export function boxId(g: Graph, id: string): string {
  const parent = g.nodes.get(id)?.parent;
  return parent && g.nodes.has(parent) ? parent : id;
}

/** Whether a node is what someone looks for who types words. */
export function matches(n: MapNode, words: string[]): boolean {
  const text = [n.name, n.group, n.workload?.image, n.workload?.user, n.process?.binary, ...n.addresses]
    .join(" ")
    .toLowerCase();
  return words.every((w) => text.includes(w.toLowerCase()));
}
