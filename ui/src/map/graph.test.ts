// SPDX-License-Identifier: Apache-2.0

import { create } from "@bufbuild/protobuf";
import { expect, test } from "vitest";
import { MapEdgeSchema, MapNodeSchema, StreamMapResponseSchema } from "../gen/vigie/v1/map_pb";
import { apply, boxesOf, linksOf, matches, nothing } from "./graph";

const node = (id: string, parent = "") => create(MapNodeSchema, { id, name: `${id}.service`, group: "g", parent });
const edge = (id: string, source: string, destination: string, more = {}) =>
  create(MapEdgeSchema, { id, source, destination, flows: 2n, bytesSent: 10n, bytesReceived: 5n, ...more });

const whole = create(StreamMapResponseSchema, {
  whole: true,
  nodes: [node("a"), node("b"), node("p", "b")],
  edges: [
    edge("1", "a", "b"),
    edge("2", "a", "b", { denied: 1n }),
    edge("3", "a", "gone"),
    edge("4", "p", "a", { change: "new" }),
  ],
});

test("changes are put on what was there", () => {
  const g = apply(nothing, whole);
  const after = apply(
    g,
    create(StreamMapResponseSchema, { nodes: [node("c")], removedEdges: ["1"], removedNodes: ["p"] }),
  );
  expect([...after.nodes.keys()]).toEqual(["a", "b", "c"]);
  expect([...after.edges.keys()]).toEqual(["2", "3", "4"]);
  expect(g.edges.size).toBe(4);
});

test("ports between two nodes are one line, as bad as its worst", () => {
  const [ab, pa, ...rest] = linksOf(apply(nothing, whole));
  expect(rest).toEqual([]);
  expect(ab).toMatchObject({ source: "a", destination: "b", flows: 4, bytes: 30, state: "denied", change: "" });
  expect(pa).toMatchObject({ source: "p", change: "new", state: "allowed" });
});

test("a box has its processes and what they said", () => {
  const g = apply(nothing, whole);
  const boxes = boxesOf(g, linksOf(g));
  expect([...boxes.keys()]).toEqual(["a", "b"]);
  expect(boxes.get("b")!.processes.map((p) => p.id)).toEqual(["p"]);
  expect(boxes.get("b")).toMatchObject({ flows: 6, state: "denied" });
});

test("words find names, in any case", () => {
  expect(matches(node("Web"), ["web", "g"])).toBe(true);
  expect(matches(node("Web"), ["db"])).toBe(false);
});
