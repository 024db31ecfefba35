// SPDX-License-Identifier: Apache-2.0

import { type Box, boxId, type Graph, type Link } from "./graph";
import { frames, type Item, type Point, type Rectangle } from "./place";

export const size = { width: 208, head: 50, process: 24, foot: 8 };

/** The box of a workload as an item of the layout. */
export function itemOf(b: Box): Item {
  const rows = b.processes.length;
  return {
    id: b.node.id,
    group: b.node.group,
    width: size.width,
    height: size.head + (rows ? rows * size.process + size.foot : 0),
  };
}

/** A connection as it is drawn: a curve from one side of a box to a side of another. */
export interface Line {
  link: Link;
  from: Point;
  to: Point;
  /** How far the curve goes out of both ends; its sign is the direction. */
  out: number;
  back: number;
}

/** All that is drawn below the boxes. */
export interface Scene {
  frames: [string, Rectangle][];
  lines: Line[];
  rects: { id: string; name: string; rect: Rectangle; state: Link["state"] }[];
}

/** Makes the scene of a map whose boxes have places. */
export function sceneOf(g: Graph, boxes: Map<string, Box>, links: Link[], places: Map<string, Point>): Scene {
  const items = [...boxes.values()].map(itemOf);
  const rects = new Map<string, Rectangle>();
  for (const i of items) {
    const p = places.get(i.id);
    if (p) rects.set(i.id, { ...p, width: i.width, height: i.height });
  }
  for (const b of boxes.values()) {
    const r = rects.get(b.node.id);
    if (!r) continue;
    b.processes.forEach((p, i) => {
      rects.set(p.id, { x: r.x, y: r.y + size.head + i * size.process, width: r.width, height: size.process });
    });
  }
  const lines: Line[] = [];
  for (const link of links) {
    const a = rects.get(link.source);
    const b = rects.get(link.destination);
    if (a && b) lines.push(lineOf(link, a, b, boxId(g, link.source) === boxId(g, link.destination)));
  }
  return {
    frames: [...frames(items, places)],
    lines,
    rects: items.flatMap((i) => {
      const rect = rects.get(i.id);
      const b = boxes.get(i.id);
      return rect && b ? [{ id: i.id, name: b.node.name, rect, state: b.state }] : [];
    }),
  };
}

function lineOf(link: Link, a: Rectangle, b: Rectangle, inside: boolean): Line {
  const ay = a.y + Math.min(a.height, size.head) / 2;
  const by = b.y + Math.min(b.height, size.head) / 2;
  if (inside || Math.abs(a.x - b.x) < a.width) {
    // One above the other: out on the right and back in on the right.
    const out = 28 + Math.min(60, Math.abs(ay - by) / 6);
    const dy = ay === by ? 8 : 0;
    return { link, from: { x: a.x + a.width, y: ay - dy }, to: { x: b.x + b.width, y: by + dy }, out, back: out };
  }
  const right = b.x > a.x;
  const from = { x: right ? a.x + a.width : a.x, y: ay };
  const to = { x: right ? b.x : b.x + b.width, y: by };
  const reach = Math.max(30, Math.abs(to.x - from.x) / 2) * (right ? 1 : -1);
  return { link, from, to, out: reach, back: -reach };
}

/** The point of a curve at t from 0 to 1. */
export function along(l: Line, t: number): Point {
  const u = 1 - t;
  const a = u * u * u;
  const b = 3 * u * u * t;
  const c = 3 * u * t * t;
  const d = t * t * t;
  return {
    x: a * l.from.x + b * (l.from.x + l.out) + c * (l.to.x + l.back) + d * l.to.x,
    y: (a + b) * l.from.y + (c + d) * l.to.y,
  };
}

/** The line that is nearest to a point, if one is as near as this. */
export function lineAt(s: Scene, p: Point, near: number): Line | undefined {
  let best: Line | undefined;
  let distance = near * near;
  for (const l of s.lines) {
    const left = Math.min(l.from.x, l.to.x, l.from.x + l.out, l.to.x + l.back) - near;
    const right = Math.max(l.from.x, l.to.x, l.from.x + l.out, l.to.x + l.back) + near;
    if (p.x < left || p.x > right || p.y < Math.min(l.from.y, l.to.y) - near || p.y > Math.max(l.from.y, l.to.y) + near)
      continue;
    for (let i = 0; i <= 40; i++) {
      const q = along(l, i / 40);
      const d = (q.x - p.x) ** 2 + (q.y - p.y) ** 2;
      if (d < distance) {
        distance = d;
        best = l;
      }
    }
  }
  return best;
}
