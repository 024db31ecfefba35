// SPDX-License-Identifier: Apache-2.0

import { create } from "@bufbuild/protobuf";
import { timestampFromDate } from "@bufbuild/protobuf/wkt";
import { useMemo, useState } from "react";
import { vigie } from "../api/client";
import { type StreamState, useCall, useStream } from "../api/use";
import { parse } from "../filter/parse";
import { date } from "../format/units";
import { StreamMapResponseSchema } from "../gen/vigie/v1/map_pb";
import { apply, type Graph, nothing } from "./graph";

/** Which map is shown. */
export interface Choice {
  text: string; // of the filter
  at: Date | undefined; // the end of the window; now when undefined
  window: number; // seconds
  before: number; // seconds before, to compare with; 0 for no comparison
  expand: string[];
}

/** The map, and how it comes. */
export interface Source {
  graph: Graph;
  state: StreamState | "past" | "loading";
  error: string | undefined;
  retry: () => void;
  completeSince: Date | undefined;
}

const maxNodes = 2000;

/** The map of a choice: followed while it is of now, fetched when it is of the past or compares. */
export function useMap(c: Choice): Source {
  const live = c.at === undefined && c.before === 0;
  const key = JSON.stringify([c.text, c.at?.getTime(), c.window, c.before, c.expand]);
  const [graph, setGraph] = useState<{ of: string; graph: Graph }>({ of: "", graph: nothing });
  const stream = useStream(
    live ? key : null,
    (signal) => {
      const { filter } = parse(c.text);
      filter.since = undefined;
      filter.until = undefined;
      return vigie.streamMap({ filter, windowSeconds: c.window, expand: c.expand, maxNodes }, { signal });
    },
    (m) => setGraph((g) => ({ of: key, graph: apply(g.graph, m) })),
  );
  const past = useCall(
    live ? null : key,
    async (signal) => {
      const { filter } = parse(c.text);
      const until = c.at ?? new Date();
      const ago = (seconds: number) => timestampFromDate(new Date(until.getTime() - seconds * 1000));
      filter.since = ago(c.window);
      filter.until = ago(0);
      const compare = c.before ? { compareSince: ago(c.window + c.before), compareUntil: ago(c.before) } : {};
      const m = await vigie.getMap({ filter, ...compare, expand: c.expand, maxNodes }, { signal });
      const whole = create(StreamMapResponseSchema, {
        whole: true,
        nodes: m.nodes,
        edges: m.edges,
        nodesLeftOut: m.nodesLeftOut,
      });
      return { graph: apply(nothing, whole), completeSince: date(m.completeSince) };
    },
    live || c.at ? undefined : 10_000,
  );
  return useMemo(() => {
    if (live)
      return {
        graph: graph.graph,
        state: stream.state,
        error: stream.error,
        retry: past.reload,
        completeSince: undefined,
      };
    const state = past.loading && !past.data ? "loading" : "past";
    return {
      graph: past.data?.graph ?? nothing,
      state,
      error: past.error,
      retry: past.reload,
      completeSince: past.data?.completeSince,
    };
  }, [live, graph, stream.state, stream.error, past]);
}
