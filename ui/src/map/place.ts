// SPDX-License-Identifier: Apache-2.0

// Where boxes stand. What has a place keeps it: a map that moves under its reader is of no use. New boxes go beside what
// they talk to, within their group; only a map without places is laid out as a whole.

/** A place on the map, in its own units. */
export interface Point {
  x: number;
  y: number;
}

/** A box to be placed. */
export interface Item {
  id: string;
  group: string;
  width: number;
  height: number;
}

/** Who talks to whom, by ids of items. */
export type Pair = [string, string];

export interface Rectangle extends Point {
  width: number;
  height: number;
}

export const gap = { x: 44, y: 20, group: 56, head: 30, pad: 18 };

/** The frames around groups, each with room for its name. */
export function frames(items: Item[], places: Map<string, Point>): Map<string, Rectangle> {
  const out = new Map<string, Rectangle>();
  for (const i of items) {
    const p = places.get(i.id);
    if (!p) continue;
    const r = {
      x: p.x - gap.pad,
      y: p.y - gap.pad - gap.head,
      width: i.width + 2 * gap.pad,
      height: i.height + 2 * gap.pad + gap.head,
    };
    const before = out.get(i.group);
    out.set(i.group, before ? union(before, r) : r);
  }
  return out;
}

function union(a: Rectangle, b: Rectangle): Rectangle {
  const x = Math.min(a.x, b.x);
  const y = Math.min(a.y, b.y);
  return {
    x,
    y,
    width: Math.max(a.x + a.width, b.x + b.width) - x,
    height: Math.max(a.y + a.height, b.y + b.height) - y,
  };
}

/** The smallest rectangle around all frames. */
export function bounds(rects: Iterable<Rectangle>): Rectangle | undefined {
  let all: Rectangle | undefined;
  for (const r of rects) all = all ? union(all, r) : r;
  return all;
}

/** Lays out a whole map as tiles: groups in rows, in each group boxes in a grid, those that talk most first. */
export function tile(items: Item[], pairs: Pair[]): Map<string, Point> {
  const degree = new Map<string, number>();
  for (const p of pairs) for (const id of p) degree.set(id, (degree.get(id) ?? 0) + 1);
  const groups = new Map<string, Item[]>();
  for (const i of items) groups.set(i.group, [...(groups.get(i.group) ?? []), i]);
  const blocks = [...groups.values()].map((list) => {
    list.sort((a, b) => (degree.get(b.id) ?? 0) - (degree.get(a.id) ?? 0) || (a.id < b.id ? -1 : 1));
    return grid(list);
  });
  blocks.sort((a, b) => b.height - a.height);
  const area = blocks.reduce((n, b) => n + (b.width + gap.group) * (b.height + gap.group), 0);
  const width = Math.max(Math.sqrt(area * 1.7), ...blocks.map((b) => b.width));
  const places = new Map<string, Point>();
  let x = 0;
  let y = 0;
  let row = 0;
  for (const b of blocks) {
    if (x > 0 && x + b.width > width) {
      x = 0;
      y += row + gap.group;
      row = 0;
    }
    for (const [id, p] of b.places) places.set(id, { x: x + p.x, y: y + p.y });
    x += b.width + gap.group;
    row = Math.max(row, b.height);
  }
  return places;
}

function grid(list: Item[]): { places: [string, Point][]; width: number; height: number } {
  const width = Math.max(...list.map((i) => i.width));
  const columns = Math.max(1, Math.round(Math.sqrt(list.length / 2.4)));
  const bottoms = Array<number>(columns).fill(gap.pad + gap.head);
  const places: [string, Point][] = list.map((i) => {
    const c = bottoms.indexOf(Math.min(...bottoms));
    const p = { x: gap.pad + c * (width + gap.x), y: bottoms[c]! };
    bottoms[c] = p.y + i.height + gap.y;
    return [i.id, p];
  });
  return {
    places,
    width: columns * (width + gap.x) - gap.x + 2 * gap.pad,
    height: Math.max(...bottoms) - gap.y + gap.pad,
  };
}

/** Places what has no place yet and leaves the rest where it is; what a box that grew would cover goes down. */
export function placeNew(items: Item[], pairs: Pair[], places: Map<string, Point>): Map<string, Point> {
  const out = new Map<string, Point>();
  for (const i of items) {
    const p = places.get(i.id);
    if (p) out.set(i.id, p);
  }
  const byId = new Map(items.map((i) => [i.id, i]));
  for (const i of items) if (!out.has(i.id)) out.set(i.id, spot(i, items, pairs, out, byId));
  return separate(items, out);
}

// spot looks for room in the group, as near as it can be to those that the box talks to, else below the group; a new group
// goes to the right of everything.
function spot(item: Item, items: Item[], pairs: Pair[], places: Map<string, Point>, byId: Map<string, Item>): Point {
  const all = frames(items, places);
  const frame = all.get(item.group);
  if (!frame) {
    const b = bounds(all.values());
    return b
      ? { x: b.x + b.width + gap.group + gap.pad, y: b.y + gap.pad + gap.head }
      : { x: gap.pad, y: gap.pad + gap.head };
  }
  const wish = { x: frame.x, y: frame.y };
  const friends = pairs
    .flatMap(([a, b]) => (a === item.id ? [b] : b === item.id ? [a] : []))
    .map((id) => places.get(id));
  const known = friends.filter((p) => p !== undefined);
  if (known.length) {
    wish.x = known.reduce((n, p) => n + p.x, 0) / known.length;
    wish.y = known.reduce((n, p) => n + p.y, 0) / known.length;
  }
  let best: Point | undefined;
  let distance = Number.POSITIVE_INFINITY;
  const right = frame.x + frame.width;
  const bottom = frame.y + frame.height;
  for (let y = frame.y + gap.pad + gap.head; y <= bottom; y += 16) {
    for (let x = frame.x + gap.pad; x <= right + gap.x; x += item.width + gap.x) {
      const r = { x, y, width: item.width, height: item.height };
      const grown = union(frame, { x: x - gap.pad, y, width: r.width + 2 * gap.pad, height: r.height + gap.pad });
      const growth = grown.width * grown.height - frame.width * frame.height;
      const d = (x - wish.x) ** 2 + (y - wish.y) ** 2 + growth;
      if (d < distance && free(r, places, byId) && outside(grown, item.group, all)) {
        best = { x, y };
        distance = d;
      }
    }
  }
  return best ?? { x: frame.x + gap.pad, y: frame.y + frame.height - gap.pad + gap.y };
}

function free(r: Rectangle, places: Map<string, Point>, byId: Map<string, Item>): boolean {
  for (const [id, p] of places) {
    const i = byId.get(id);
    if (i && overlap(r, { ...p, width: i.width, height: i.height }, gap.y / 2)) return false;
  }
  return true;
}

function outside(r: Rectangle, group: string, all: Map<string, Rectangle>): boolean {
  for (const [g, f] of all) if (g !== group && overlap(r, f, gap.pad)) return false;
  return true;
}

/** Whether two rectangles are nearer than margin. */
export function overlap(a: Rectangle, b: Rectangle, margin: number): boolean {
  return (
    a.x < b.x + b.width + margin &&
    b.x < a.x + a.width + margin &&
    a.y < b.y + b.height + margin &&
    b.y < a.y + a.height + margin
  );
}

// separate moves boxes of a group down that stand under a higher one of it, and groups that would cover another.
function separate(items: Item[], places: Map<string, Point>): Map<string, Point> {
  const groups = new Map<string, Item[]>();
  for (const i of items) groups.set(i.group, [...(groups.get(i.group) ?? []), i]);
  for (const list of groups.values()) {
    list.sort((a, b) => places.get(a.id)!.y - places.get(b.id)!.y);
    pushDown(
      list.map((i) => ({ rect: { ...places.get(i.id)!, width: i.width, height: i.height }, ids: [i.id] })),
      gap.y / 2,
      places,
    );
  }
  const all = frames(items, places);
  const blocks = [...all].map(([g, rect]) => ({ rect: { ...rect }, ids: groups.get(g)!.map((i) => i.id) }));
  blocks.sort((a, b) => a.rect.y - b.rect.y);
  pushDown(blocks, gap.pad, places);
  return places;
}

function pushDown(blocks: { rect: Rectangle; ids: string[] }[], margin: number, places: Map<string, Point>): void {
  if (blocks.length > 400) return; // as many as this come from a layout, which leaves room
  blocks.forEach((b, n) => {
    for (const above of blocks.slice(0, n)) {
      if (!overlap(above.rect, b.rect, 0)) continue;
      const dy = above.rect.y + above.rect.height + margin - b.rect.y;
      b.rect.y += dy;
      for (const id of b.ids) places.set(id, { x: places.get(id)!.x, y: places.get(id)!.y + dy });
    }
  });
}
