// SPDX-License-Identifier: Apache-2.0

import { expect, test } from "vitest";
import { frames, type Item, type Point, placeNew, type Rectangle, tile } from "./place";

const item = (id: string, group: string, height = 52): Item => ({ id, group, width: 200, height });

function overlaps(items: Item[], places: Map<string, Point>): string[] {
  const rects = items.map((i) => ({ id: i.id, ...places.get(i.id)!, width: i.width, height: i.height }));
  return pairsOf(rects);
}

function pairsOf(rects: (Rectangle & { id: string })[]): string[] {
  return rects.flatMap((a, n) =>
    rects
      .slice(n + 1)
      .filter((b) => a.x < b.x + b.width && b.x < a.x + a.width && a.y < b.y + b.height && b.y < a.y + a.height)
      .map((b) => `${a.id} ${b.id}`),
  );
}

test("a thousand boxes are tiled without one on another", () => {
  const items = Array.from({ length: 1000 }, (_, i) => item(`n${i}`, `g${i % 20}`, 52 + (i % 7) * 24));
  const places = tile(items, []);
  expect(places.size).toBe(1000);
  expect(overlaps(items, places)).toEqual([]);
  expect(pairsOf([...frames(items, places)].map(([id, r]) => ({ id, ...r })))).toEqual([]);
});

test("what has a place keeps it, what is new stands in its group", () => {
  const old = [item("a", "x"), item("b", "x"), item("c", "y")];
  const before = tile(old, []);
  const items = [...old, item("d", "x"), item("e", "z")];
  const after = placeNew(items, [["d", "b"]], before);
  for (const i of old) expect(after.get(i.id)).toEqual(before.get(i.id));
  expect(after.size).toBe(5);
  expect(overlaps(items, after)).toEqual([]);
  expect(pairsOf([...frames(items, after)].map(([id, r]) => ({ id, ...r })))).toEqual([]);
});

test("a box that opens moves what it would cover and nothing else", () => {
  const items = [item("a", "x"), item("b", "x"), item("c", "x")];
  const before = new Map([
    ["a", { x: 0, y: 0 }],
    ["b", { x: 0, y: 70 }],
    ["c", { x: 300, y: 70 }],
  ]);
  const after = placeNew([item("a", "x", 200), items[1]!, items[2]!], [], before);
  expect(after.get("a")).toEqual({ x: 0, y: 0 });
  expect(after.get("b")!.y).toBeGreaterThanOrEqual(200);
  expect(after.get("c")).toEqual({ x: 300, y: 70 });
});
