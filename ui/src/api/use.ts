// SPDX-License-Identifier: Apache-2.0

import { useCallback, useEffect, useRef, useState } from "react";
import { explain, isAbort } from "./client";

/** An answer, or why there is none. */
export interface Call<T> {
  data: T | undefined;
  error: string | undefined;
  loading: boolean;
  reload: () => void;
}

/**
 * Calls the API when key changes, and again every so many milliseconds while the page is seen. The answer before stays
 * until the next one is there. A null key calls nothing.
 */
export function useCall<T>(key: string | null, call: (signal: AbortSignal) => Promise<T>, every?: number): Call<T> {
  const [state, setState] = useState<{ key: string | null; data?: T; error?: string; loading: boolean }>({
    key: null,
    loading: true,
  });
  const [round, setRound] = useState(0);
  const latest = useRef(call);
  latest.current = call;
  // biome-ignore lint/correctness/useExhaustiveDependencies: round asks for the same once more
  useEffect(() => {
    if (key === null) return;
    const abort = new AbortController();
    let timer = 0;
    setState((s) => ({ ...s, loading: true }));
    const run = async () => {
      if (!document.hidden) {
        try {
          const data = await latest.current(abort.signal);
          if (!abort.signal.aborted) setState({ key, data, loading: false });
        } catch (err) {
          if (abort.signal.aborted || isAbort(err)) return;
          setState((s) => ({ key, data: s.key === key ? s.data : undefined, error: explain(err), loading: false }));
        }
      }
      if (every && !abort.signal.aborted) timer = window.setTimeout(run, every);
    };
    void run();
    return () => {
      abort.abort();
      clearTimeout(timer);
    };
  }, [key, every, round]);
  const reload = useCallback(() => setRound((n) => n + 1), []);
  return { data: state.data, error: state.error, loading: state.loading, reload };
}

/** How a stream is doing. */
export type StreamState = "connecting" | "live" | "retrying" | "ended";

/**
 * Follows a stream of the API while key stays and the page is seen: a browser has six connections to a host, and a hidden
 * tab needs none. After an error it tries again, later each time. A null key opens nothing.
 */
export function useStream<T>(
  key: string | null,
  open: (signal: AbortSignal) => AsyncIterable<T>,
  take: (message: T) => void,
): { state: StreamState; error: string | undefined } {
  const [status, setStatus] = useState<{ state: StreamState; error?: string }>({ state: "connecting" });
  const hidden = useHidden();
  const latest = useRef({ open, take });
  latest.current = { open, take };
  useEffect(() => {
    if (key === null || hidden) return;
    const abort = new AbortController();
    setStatus({ state: "connecting" });
    void follow(abort.signal, latest, setStatus);
    return () => abort.abort();
  }, [key, hidden]);
  return { state: status.state, error: status.error };
}

async function follow<T>(
  signal: AbortSignal,
  latest: { current: { open: (signal: AbortSignal) => AsyncIterable<T>; take: (message: T) => void } },
  tell: (s: { state: StreamState; error?: string }) => void,
): Promise<void> {
  for (let wait = 1000; !signal.aborted; wait = Math.min(wait * 2, 15_000)) {
    try {
      for await (const message of latest.current.open(signal)) {
        if (signal.aborted) return;
        tell({ state: "live" });
        latest.current.take(message);
        wait = 1000;
      }
      tell({ state: "retrying", error: "The agent ended the stream: it stops or restarts." });
    } catch (err) {
      if (signal.aborted) return;
      tell({ state: "retrying", error: explain(err) });
    }
    await new Promise((done) => setTimeout(done, wait));
  }
}

function useHidden(): boolean {
  const [hidden, setHidden] = useState(document.hidden);
  useEffect(() => {
    // A glance at another tab does not cost the stream.
    let timer = 0;
    const look = () => {
      clearTimeout(timer);
      if (document.hidden) timer = window.setTimeout(() => setHidden(true), 30_000);
      else setHidden(false);
    };
    document.addEventListener("visibilitychange", look);
    return () => {
      clearTimeout(timer);
      document.removeEventListener("visibilitychange", look);
    };
  }, []);
  return hidden;
}
