// SPDX-License-Identifier: Apache-2.0

import { useEffect, useState } from "react";
import { vigie } from "../api/client";
import { useCall } from "../api/use";
import { useRoute } from "../app/route";
import { date, moment } from "../format/units";

const windows = { 60: "1 min", 300: "5 min", 900: "15 min", 3600: "1 h" };
const steps = { 300: "5 min before", 3600: "1 h before", 86400: "a day before", 604800: "a week before" };

/** The time of the map as the address says it. */
export function readTime(params: URLSearchParams): { at: Date | undefined; window: number; before: number } {
  const at = new Date(params.get("at") ?? "");
  const window = Number(params.get("w"));
  const before = Number(params.get("vs"));
  return {
    at: Number.isNaN(at.getTime()) ? undefined : at,
    window: window in windows ? window : 300,
    before: before in steps ? before : 0,
  };
}

/** Chooses the time of the map: now, or a moment on the slider; and another time to compare with. */
export function TimeBar({ completeSince, comparing }: { completeSince: Date | undefined; comparing: boolean }) {
  const { params, set } = useRoute();
  const { at, window, before } = readTime(params);
  const oldest = useCall(
    "oldest",
    async (signal) => {
      const { status } = await vigie.getStatus({}, { signal });
      return date(status?.history?.oldest ?? status?.store?.completeSince);
    },
    60_000,
  );
  const now = Date.now();
  const first = Math.min(oldest.data?.getTime() ?? now - 3_600_000, now - 60_000);
  const [draft, setDraft] = useState<number>();
  const shown = draft ?? at?.getTime() ?? now;
  // The map is fetched when the hand rests.
  useEffect(() => {
    if (draft === undefined) return;
    const timer = setTimeout(() => {
      set({ at: draft > Date.now() - 5000 ? undefined : new Date(draft).toISOString() });
      setDraft(undefined);
    }, 250);
    return () => clearTimeout(timer);
  }, [draft, set]);
  const early = at && completeSince && at.getTime() - window * 1000 < completeSince.getTime() - 1000;
  return (
    <div className="time">
      <button type="button" aria-pressed={at === undefined} onClick={() => set({ at: undefined })}>
        Live
      </button>
      <div className="slider">
        <input
          type="range"
          aria-label="The map as it was at"
          aria-valuetext={at || draft ? moment(new Date(shown)) : "now"}
          min={first}
          max={now}
          step={1000}
          value={shown}
          onChange={(e) => setDraft(Number(e.target.value))}
        />
        <div className="ends muted" aria-hidden="true">
          <span>{moment(new Date(first))}</span>
          <strong>{at || draft ? `as it was at ${moment(new Date(shown))}` : ""}</strong>
          <span>now</span>
        </div>
      </div>
      <label className="wide">
        <span className="hidden">Moment</span>
        <input
          type="datetime-local"
          step={1}
          value={local(new Date(shown))}
          onChange={(e) => {
            const t = new Date(e.target.value);
            if (!Number.isNaN(t.getTime())) set({ at: t.toISOString() });
          }}
        />
      </label>
      <label>
        <span className="hidden">Length of time</span>
        <select value={window} onChange={(e) => set({ w: e.target.value })}>
          {Object.entries(windows).map(([s, name]) => (
            <option key={s} value={s}>
              {name}
            </option>
          ))}
        </select>
      </label>
      <label>
        <span className="hidden">Compare with</span>
        <select
          value={before}
          onChange={(e) => set({ vs: e.target.value === "0" ? undefined : e.target.value, only: undefined })}
        >
          <option value={0}>no comparison</option>
          {Object.entries(steps).map(([s, name]) => (
            <option key={s} value={s}>
              with {name}
            </option>
          ))}
        </select>
      </label>
      {comparing && (
        <button
          type="button"
          aria-pressed={params.has("only")}
          onClick={() => set({ only: params.has("only") ? undefined : "1" })}
        >
          Only changes
        </button>
      )}
      {early && (
        <p className="warn" role="status">
          History is complete since {moment(completeSince)}; of before, this map may lack something.
        </p>
      )}
    </div>
  );
}

function local(d: Date): string {
  return new Date(d.getTime() - d.getTimezoneOffset() * 60_000).toISOString().slice(0, 19);
}
