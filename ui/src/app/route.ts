// SPDX-License-Identifier: Apache-2.0

import { useCallback, useMemo, useSyncExternalStore } from "react";

// Where the user is stands behind the '#': every view has a link, and the server has one page.

/** The pages, in the order of the navigation. */
export const pages = ["map", "timeline", "policies", "alerts", "health"] as const;
export type Page = (typeof pages)[number];

/** A place in the page. */
export interface Route {
  page: Page;
  params: URLSearchParams;
}

/** Reads "#/timeline?f=…"; the map when it is nothing else. */
export function parse(hash: string): Route {
  const [path = "", query = ""] = hash.replace(/^#\/?/, "").split("?", 2);
  return { page: pages.find((p) => p === path) ?? "map", params: new URLSearchParams(query) };
}

/** The link to a page. Empty values are left out. */
export function link(page: Page, params: Record<string, string | undefined> = {}): string {
  const q = new URLSearchParams();
  for (const [k, v] of Object.entries(params)) if (v) q.set(k, v);
  const s = q.toString();
  return s ? `#/${page}?${s}` : `#/${page}`;
}

const subscribe = (f: () => void) => {
  addEventListener("hashchange", f);
  return () => removeEventListener("hashchange", f);
};

/** The route, and a function that changes parameters of it in place. */
export function useRoute(): Route & { set: (change: Record<string, string | undefined>) => void } {
  const hash = useSyncExternalStore(subscribe, () => location.hash);
  const route = useMemo(() => parse(hash), [hash]);
  const set = useCallback((change: Record<string, string | undefined>) => {
    const { page, params } = parse(location.hash);
    history.replaceState(null, "", link(page, { ...Object.fromEntries(params), ...change }));
    dispatchEvent(new HashChangeEvent("hashchange"));
  }, []);
  return { ...route, set };
}
