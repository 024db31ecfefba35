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

/** A connection as it is drawn: a curve between the sides of two boxes, by its ends and what bends it at each. */
export interface Line {
  link: Link;
  from: Point;
  leave: Point;
  reach: Point;
  to: Point;
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

// lineOf joins the sides of two boxes that face each other. Rows of processes have left and right sides only; where these lie
// one above the other, and where boxes are too far apart for a line between them, it goes out and back in on the right.
function lineOf(link: Link, a: Rectangle, b: Rectangle, inside: boolean): Line {
  const rows = inside || Math.min(a.height, b.height) <= size.process;
  const x = Math.max(b.x - a.x - a.width, a.x - b.x - b.width);
  const y = Math.max(b.y - a.y - a.height, a.y - b.y - b.height);
  if (!rows && y > 0 && y > x && (x > 0 || y < far)) return downwards(link, a, b, y);
  const ay = a.y + Math.min(a.height, size.head) / 2;
  const by = b.y + Math.min(b.height, size.head) / 2;
  if (x <= 0) {
    const out = Math.max(a.x + a.width, b.x + b.width) + 28 + Math.min(60, Math.abs(ay - by) / 6);
    const dy = ay === by ? 8 : 0;
    const from = { x: a.x + a.width, y: ay - dy };
    const to = { x: b.x + b.width, y: by + dy };
    return { link, from, leave: { x: out, y: from.y }, reach: { x: out, y: to.y }, to };
  }
  const right = b.x > a.x;
  const from = { x: right ? a.x + a.width : a.x, y: ay };
  const to = { x: right ? b.x : b.x + b.width, y: by };
  const bend = Math.max(30, x / 2) * (right ? 1 : -1);
  return { link, from, leave: { x: from.x + bend, y: from.y }, reach: { x: to.x - bend, y: to.y }, to };
}

const far = 170; // between boxes one above the other: there may be others between them

function downwards(link: Link, a: Rectangle, b: Rectangle, gap: number): Line {
  const down = b.y > a.y;
  // Lines to both sides of a box do not begin in one point.
  const lean = Math.max(-0.3, Math.min(0.3, (b.x - a.x) / 900));
  const from = { x: a.x + a.width * (0.5 + lean), y: down ? a.y + a.height : a.y };
  const to = { x: b.x + b.width * (0.5 - lean), y: down ? b.y : b.y + b.height };
  const bend = Math.max(24, gap / 2) * (down ? 1 : -1);
  return { link, from, leave: { x: from.x, y: from.y + bend }, reach: { x: to.x, y: to.y - bend }, to };
}

/** The rectangle in which a curve lies. */
export function extent(l: Line): { left: number; right: number; top: number; bottom: number } {
  const xs = [l.from.x, l.leave.x, l.reach.x, l.to.x];
  const ys = [l.from.y, l.leave.y, l.reach.y, l.to.y];
  return { left: Math.min(...xs), right: Math.max(...xs), top: Math.min(...ys), bottom: Math.max(...ys) };
}

/** The point of a curve at t from 0 to 1. */
export function along(l: Line, t: number): Point {
  const u = 1 - t;
  const a = u * u * u;
  const b = 3 * u * u * t;
  const c = 3 * u * t * t;
  const d = t * t * t;
  return {
    x: a * l.from.x + b * l.leave.x + c * l.reach.x + d * l.to.x,
    y: a * l.from.y + b * l.leave.y + c * l.reach.y + d * l.to.y,
  };
}

/** The line that is nearest to a point, if one is as near as this. */
export function lineAt(s: Scene, p: Point, near: number): Line | undefined {
  let best: Line | undefined;
  let distance = near * near;
  for (const l of s.lines) {
    const e = extent(l);
    if (p.x < e.left - near || p.x > e.right + near || p.y < e.top - near || p.y > e.bottom + near) continue;
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
