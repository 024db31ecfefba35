// SPDX-License-Identifier: Apache-2.0

import { useEffect, useRef, useState } from "react";
import { vigie } from "../api/client";
import { type StreamState, useStream } from "../api/use";
import { parseForEvents } from "../filter/parse";
import type { Event } from "../gen/vigie/v1/event_pb";

const most = 5000; // events that are held; older ones are in the agent's history
const first = 1000; // recent ones that come at once
const rest = 200; // milliseconds between two updates of what is shown

/** An event with a number of its own: what only this client lost has no number of the agent's. */
export interface Entry {
  id: number;
  event: Event;
}

/** Follows the events that pass a filter, newest first. */
export function useFeed(
  text: string,
  types: string[],
): { entries: Entry[]; state: StreamState; error: string | undefined } {
  const [entries, setEntries] = useState<Entry[]>([]);
  const waiting = useRef<Entry[]>([]);
  const next = useRef(0);
  const key = JSON.stringify([text, types]);
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
      const { filter } = parseForEvents(text);
      if (types.length && filter.types.length === 0) filter.types = types;
      return vigie.streamEvents({ filter, last: first }, { signal });
    },
    (m) => {
      for (const event of m.events) waiting.current.push({ id: next.current++, event });
      if (waiting.current.length > most) waiting.current.splice(0, waiting.current.length - most);
    },
  );
  return { entries, ...status };
}
