// SPDX-License-Identifier: Apache-2.0

import { useCallback, useEffect, useRef, useState } from "react";
import type { Box, Graph, Link } from "./graph";
import { boxId } from "./graph";
import { type Layout, startLayout } from "./layout";
import { type Item, type Pair, type Point, placeNew } from "./place";
import { itemOf } from "./scene";

const key = "vigie.places";
const most = 4000; // places that are kept in the browser: the ids of nodes are stable

/** The places of the boxes: as they were, also after the page is loaded again; what is new joins them. */
export function usePlaces(g: Graph, boxes: Map<string, Box>, links: Link[]) {
  const layout = useRef<Layout | null>(null);
  const [places, setPlaces] = useState(load);
  const [laid, setLaid] = useState(0); // layouts of the whole map so far
  const busy = useRef(false);
  const latest = useRef({ g, boxes, links });
  latest.current = { g, boxes, links };
  useEffect(() => {
    return () => {
      layout.current?.close();
      layout.current = null;
    };
  }, []);

  const arrange = useCallback((whole: boolean) => {
    const { items, pairs } = toPlace(latest.current);
    if (items.length === 0 || busy.current) return;
    if (!whole) {
      setPlaces((before) => keep(before, placeNew(items, pairs, before)));
      return;
    }
    busy.current = true;
    layout.current ??= startLayout();
    void layout.current.run(items, pairs, stageSize()).then((laid) => {
      busy.current = false;
      // What came while the layout ran is added to it.
      const now = toPlace(latest.current);
      setPlaces((before) => keep(before, placeNew(now.items, now.pairs, laid)));
      setLaid((n) => n + 1);
    });
  }, []);

  const shape = [...boxes.values()].map((b) => `${b.node.id} ${b.processes.length}`).join("\n");
  // biome-ignore lint/correctness/useExhaustiveDependencies: places are looked at when boxes come and go
  useEffect(() => {
    if (!shape) return;
    const { items } = toPlace(latest.current);
    const known = items.filter((i) => places.has(i.id)).length;
    // Most of it is new: the first look at this map.
    if (known < items.length / 2) arrange(true);
    else if (known < items.length || grown(items, latest.current.boxes)) arrange(false);
  }, [shape, arrange]);

  const move = useCallback((id: string, p: Point) => setPlaces((before) => keep(before, new Map([[id, p]]))), []);
  return { places, laid, move, arrange: () => arrange(true) };
}

function stageSize(): { width: number; height: number } {
  const r = (document.querySelector(".flow") ?? document.querySelector(".stage"))?.getBoundingClientRect();
  return { width: r?.width || 1000, height: r?.height || 600 };
}

function toPlace({ g, boxes, links }: { g: Graph; boxes: Map<string, Box>; links: Link[] }): {
  items: Item[];
  pairs: Pair[];
} {
  const pairs = new Map<string, Pair>();
  for (const l of links) {
    const pair: Pair = [boxId(g, l.source), boxId(g, l.destination)];
    pairs.set(pair.join(" "), pair);
  }
  return { items: [...boxes.values()].map(itemOf), pairs: [...pairs.values()] };
}

function grown(items: Item[], boxes: Map<string, Box>): boolean {
  return items.some((i) => (boxes.get(i.id)?.processes.length ?? 0) > 0);
}

function keep(before: Map<string, Point>, change: Map<string, Point>): Map<string, Point> {
  const all = new Map(before);
  for (const [id, p] of change) {
    all.delete(id); // the latest go last, the oldest are forgotten
    all.set(id, { x: Math.round(p.x), y: Math.round(p.y) });
  }
  const list = [...all].slice(-most);
  try {
    localStorage.setItem(key, JSON.stringify(list.map(([id, p]) => [id, p.x, p.y])));
  } catch {
    // A browser that keeps nothing shows the same map, laid out anew each time.
  }
  return new Map(list);
}

function load(): Map<string, Point> {
  try {
    const list = JSON.parse(localStorage.getItem(key) ?? "[]") as [string, number, number][];
    return new Map(list.map(([id, x, y]) => [id, { x, y }]));
  } catch {
    return new Map();
  }
}
