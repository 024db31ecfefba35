// SPDX-License-Identifier: Apache-2.0

import { lazy, Suspense, useSyncExternalStore } from "react";
import { vigie } from "../api/client";
import { needsToken, onSession, setToken, token } from "../api/session";
import { useCall } from "../api/use";
import { FilterBar } from "../filter/bar";
import { count, plural } from "../format/units";
import { Loading } from "../parts/empty";
import { Icon } from "./icons";
import { Login } from "./login";
import { link, type Page, pages, useRoute } from "./route";
import { useTheme } from "./theme";

const views: Record<Page, ReturnType<typeof lazy>> = {
  map: lazy(() => import("../map/page")),
  timeline: lazy(() => import("../timeline/page")),
  policies: lazy(() => import("../policies/page")),
  alerts: lazy(() => import("../alerts/page")),
  health: lazy(() => import("../health/page")),
};

const titles: Record<Page, string> = {
  map: "Map",
  timeline: "Timeline",
  policies: "Policies",
  alerts: "Alerts",
  health: "Health",
};

/** The whole page: navigation, filter, and the view that the address names. */
export function App() {
  const locked = useSyncExternalStore(onSession, needsToken);
  return locked ? <Login /> : <Shell />;
}

function Shell() {
  const route = useRoute();
  const View = views[route.page];
  const filter = route.params.get("f") ?? "";
  document.title = `${titles[route.page]} · vigie`;
  return (
    <div className="shell">
      <button type="button" className="skip" onClick={() => document.getElementById("main")?.focus()}>
        Skip to the content
      </button>
      <nav className="nav" aria-label="Pages">
        <span className="brand">
          <img src="/icon.svg" alt="" /> vigie
        </span>
        {pages.map((p) => (
          <a key={p} href={link(p, { f: filter })} aria-current={p === route.page ? "page" : undefined}>
            <Icon page={p} /> {titles[p]}
          </a>
        ))}
        <Foot />
      </nav>
      <header className="top">
        <FilterBar text={filter} set={(f) => route.set({ f })} />
        <span className="grow" />
        <ThemeSwitch />
      </header>
      <main className="main" id="main" tabIndex={-1}>
        <Suspense fallback={<Loading />}>
          <View />
        </Suspense>
      </main>
    </div>
  );
}

function ThemeSwitch() {
  const [theme, next] = useTheme();
  const sign = { system: "◐", light: "☀", dark: "☾" }[theme];
  return (
    <button
      type="button"
      className="plain"
      onClick={next}
      aria-label={`Colours: ${theme}. Change`}
      title={`Colours: ${theme}`}
    >
      <span aria-hidden="true">{sign}</span>
    </button>
  );
}

function Foot() {
  const { data } = useCall("status", (signal) => vigie.getStatus({}, { signal }), 10_000);
  const s = data?.status;
  if (!s) return <div className="foot" />;
  const lost = s.losses.reduce((n, l) => n + Number(l.count), 0);
  const away = s.nodes.filter((n) => n.state !== "connected").map((n) => n.name);
  return (
    <div className="foot">
      <span title={`Linux ${s.kernel}, vigie ${s.version}`}>
        {s.host || "this host"}
        {s.replay && " (replay)"}
      </span>
      {away.length > 0 && (
        <a className="badge bad" href={link("health")} title={`What they see is missing: ${away.join(", ")}`}>
          {away.length === 1 ? `${away[0]} does not answer` : `${plural(away.length, "node")} do not answer`}
        </a>
      )}
      {lost > 0 && (
        <a className="badge warn" href={link("health")}>
          {count(lost)} events lost
        </a>
      )}
      {token() && (
        <button type="button" onClick={() => setToken("")}>
          Log out
        </button>
      )}
    </div>
  );
}
