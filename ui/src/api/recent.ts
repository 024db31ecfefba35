// SPDX-License-Identifier: Apache-2.0

import { create } from "@bufbuild/protobuf";
import { timestampFromDate } from "@bufbuild/protobuf/wkt";
import { useEffect, useState } from "react";
import type { Event } from "../gen/vigie/v1/event_pb";
import { type Filter, FilterSchema } from "../gen/vigie/v1/filter_pb";
import { vigie } from "./client";
import { useCall, useStream } from "./use";

const most = 500;

/** A day ago: how far back a view looks by itself. History may be long, and what is rare is looked for in all of it. */
export function dayAgo() {
  return timestampFromDate(new Date(Date.now() - 86_400_000));
}

/**
 * The events of the last day that pass a filter, newest first, and those that come. The past is asked for once; key stands for
 * the filter.
 */
export function useRecent(
  key: string,
  filter: () => Filter,
): { events: Event[] | undefined; error: string | undefined; reload: () => void } {
  const [fresh, setFresh] = useState<Event[]>([]);
  const past = useCall(key, async (signal) => {
    const f = filter();
    f.since ??= dayAgo();
    return (await vigie.queryEvents({ filter: f, newestFirst: true, pageSize: most }, { signal })).events;
  });
  // biome-ignore lint/correctness/useExhaustiveDependencies: another filter begins anew
  useEffect(() => setFresh([]), [key]);
  useStream(
    key,
    (signal) =>
      vigie.streamEvents(
        { filter: create(FilterSchema, { ...filter(), since: undefined, until: undefined }) },
        { signal },
      ),
    (m) => setFresh((before) => [...m.events.filter((e) => !e.loss).reverse(), ...before].slice(0, most)),
  );
  const seen = new Set(fresh.map((e) => e.seq));
  const events = past.data && [...fresh, ...past.data.filter((e) => !seen.has(e.seq))].slice(0, most);
  return { events, error: past.error, reload: past.reload };
}
