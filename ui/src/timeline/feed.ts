// SPDX-License-Identifier: Apache-2.0

import { useEffect, useRef, useState } from "react";
import { vigie } from "../api/client";
import { type StreamState, useCall, useStream } from "../api/use";
import { parseForEvents } from "../filter/parse";
import type { Event } from "../gen/vigie/v1/event_pb";
import type { Filter } from "../gen/vigie/v1/filter_pb";

const most = 5000; // events that are held; older ones are in the agent's history
const first = 1000; // recent ones that come at once
const rest = 200; // milliseconds between two updates of what is shown

/** An event with a number of its own: what only this client lost has no number of the agent's. */
export interface Entry {
  id: number;
  event: Event;
}

/** The events that pass a filter, newest first: those that come, or of a time that is over those that were. */
export function useFeed(text: string, types: string[]): Feed {
  const over = parseForEvents(text).filter.until !== undefined;
  const key = JSON.stringify([text, types]);
  const live = useLive(over ? null : key, () => filterOf(text, types));
  const past = useCall(over ? key : null, async (signal) => {
    const { events, nodeErrors } = await vigie.queryEvents(
      { filter: filterOf(text, types), newestFirst: true, pageSize: first },
      { signal },
    );
    return { entries: events.map((event, i) => ({ id: -i, event })), missing: nodeErrors.map((e) => e.node) };
  });
  if (!over) return live;
  return { ...(past.data ?? none), state: past.data ? "past" : "connecting", error: past.error };
}

/** Events, and how they come. */
export interface Feed {
  entries: Entry[];
  state: StreamState | "past";
  error: string | undefined;
  missing: string[]; // nodes of which nothing comes, as a relay tells
}

const none: { entries: Entry[]; missing: string[] } = { entries: [], missing: [] };

function filterOf(text: string, types: string[]): Filter {
  const { filter } = parseForEvents(text);
  if (types.length && filter.types.length === 0) filter.types = types;
  return filter;
}

function useLive(key: string | null, filter: () => Filter): Feed {
  const [entries, setEntries] = useState<Entry[]>([]);
  const [missing, setMissing] = useState<string[]>([]);
  const waiting = useRef<Entry[]>([]);
  const next = useRef(0);
  // biome-ignore lint/correctness/useExhaustiveDependencies: another filter begins anew
  useEffect(() => {
    waiting.current = [];
    setEntries([]);
  }, [key]);
  useEffect(() => {
    const timer = setInterval(() => {
      if (waiting.current.length === 0) return;
      const fresh = waiting.current.reverse();
      waiting.current = [];
      setEntries((before) => [...fresh, ...before].slice(0, most));
    }, rest);
    return () => clearInterval(timer);
  }, []);
  const status = useStream(
    key,
    (signal) => {
      waiting.current = [];
      setEntries([]);
      setMissing([]);
      return vigie.streamEvents({ filter: filter(), last: first }, { signal });
    },
    (m) => {
      for (const event of m.events) waiting.current.push({ id: next.current++, event });
      if (m.nodes.length)
        setMissing((before) => {
          const told = new Set(m.nodes.map((n) => n.name));
          const away = m.nodes.filter((n) => n.state === "unavailable").map((n) => n.name);
          return [...before.filter((name) => !told.has(name)), ...away].sort();
        });
      if (waiting.current.length > most) waiting.current.splice(0, waiting.current.length - most);
    },
  );
  return { entries, missing, ...status };
}
