// SPDX-License-Identifier: Apache-2.0

import { useEffect, useState } from "react";
import { date } from "../format/units";
import type { Status } from "../gen/vigie/v1/status_pb";

/** What the agent did in one second, between two looks at its status. */
export interface Sample {
  time: number; // seconds since 1970
  events: number;
  lost: number;
  cpu: number; // of one core
}

const most = 180;

/** The samples since the page was opened: the agent keeps totals only. */
export function useSamples(s: Status | undefined): Sample[] {
  const [state, setState] = useState<{ last: Status | undefined; list: Sample[] }>({ last: undefined, list: [] });
  useEffect(() => {
    if (!s) return;
    setState(({ last, list }) => {
      const span = last ? Number(s.uptimeNs - last.uptimeNs) / 1e9 : 0;
      if (!last || span <= 0 || date(last.startTime)?.getTime() !== date(s.startTime)?.getTime())
        return { last: s, list: last ? [] : list };
      const sample = {
        time: Math.round(Date.now() / 1000),
        events: (total(s) - total(last)) / span,
        lost: (lost(s) - lost(last)) / span,
        cpu: Number(s.cpuTimeNs - last.cpuTimeNs) / 1e9 / span,
      };
      return { last: s, list: [...list, sample].slice(-most) };
    });
  }, [s]);
  return state.list;
}

function total(s: Status): number {
  return Object.values(s.events).reduce((n, v) => n + Number(v), 0);
}

/** How many events were lost since the agent started. */
export function lost(s: Status): number {
  return s.losses.reduce((n, l) => n + Number(l.count), 0);
}
