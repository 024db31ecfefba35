// SPDX-License-Identifier: Apache-2.0

import type { ELK, ElkNode } from "elkjs/lib/elk-api";
import ElkApi from "elkjs/lib/elk-api";
// As it is: a bundler's wrapping makes ELK believe that it is no worker.
import workerUrl from "elkjs/lib/elk-worker.min.js?url";
import { gap, type Item, type Pair, type Point, tile } from "./place";

/** Up to this many boxes and pairs ELK finds a layout within a second or two; above, tiles are as good to look at. */
const small = { items: 120, pairs: 400 };

/** The size of the stage on which the map is shown. */
export interface Size {
  width: number;
  height: number;
}

/** Lays out maps as a whole, in a worker. */
export interface Layout {
  /** The places of all boxes, so that they are as large as they can be on a stage of that size. */
  run: (items: Item[], pairs: Pair[], stage: Size) => Promise<Map<string, Point>>;
  close: () => void;
}

/** Starts the layout. Its worker is loaded when the first small map comes. */
export function startLayout(): Layout {
  let elk: ELK | undefined;
  return {
    run: async (items, pairs, stage) => {
      if (items.length > small.items || pairs.length > small.pairs) return tile(items, pairs);
      elk ??= new ElkApi({ workerFactory: () => new Worker(workerUrl) });
      try {
        const ways = await Promise.all(["RIGHT", "DOWN"].map((way) => elk!.layout(graph(items, pairs, way))));
        return places(ways.sort((a, b) => zoom(b, stage) - zoom(a, stage))[0]!);
      } catch (err) {
        console.warn("the layout failed, boxes are tiled", err);
        return tile(items, pairs);
      }
    },
    close: () => elk?.terminateWorker(),
  };
}

const common = {
  "elk.algorithm": "layered",
  "elk.hierarchyHandling": "INCLUDE_CHILDREN",
  "elk.layered.spacing.nodeNodeBetweenLayers": "72",
  "elk.spacing.nodeNode": "28",
  "elk.spacing.componentComponent": String(gap.group / 2),
  "elk.layered.spacing.edgeNodeBetweenLayers": "16",
  "elk.spacing.edgeNode": "24",
  "elk.spacing.edgeEdge": "6",
  "elk.aspectRatio": "1.6",
};

function zoom(laid: ElkNode, stage: Size): number {
  return Math.min(stage.width / (laid.width ?? 1), stage.height / (laid.height ?? 1));
}

function graph(items: Item[], pairs: Pair[], way: string): ElkNode {
  const options = { ...common, "elk.direction": way };
  const groups = new Map<string, Item[]>();
  for (const i of items) groups.set(i.group, [...(groups.get(i.group) ?? []), i]);
  const ids = new Set(items.map((i) => i.id));
  return {
    id: "map",
    layoutOptions: options,
    children: [...groups].map(([name, list]) => ({
      id: `group ${name}`,
      layoutOptions: {
        ...options,
        "elk.padding": `[top=${gap.pad + gap.head},left=${gap.pad},bottom=${gap.pad},right=${gap.pad}]`,
      },
      children: list.map(({ id, width, height }) => ({ id, width, height })),
    })),
    edges: pairs
      .filter(([a, b]) => a !== b && ids.has(a) && ids.has(b))
      .map(([a, b], i) => ({ id: `edge ${i}`, sources: [a], targets: [b] })),
  };
}

function places(laid: ElkNode): Map<string, Point> {
  const out = new Map<string, Point>();
  for (const g of laid.children ?? []) {
    for (const n of g.children ?? []) out.set(n.id, { x: (g.x ?? 0) + (n.x ?? 0), y: (g.y ?? 0) + (n.y ?? 0) });
  }
  return out;
}
