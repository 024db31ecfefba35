// SPDX-License-Identifier: Apache-2.0

import { useMemo } from "react";
import { line } from "../format/event";
import { count, date } from "../format/units";
import { Chart } from "../parts/chart";
import type { Entry } from "./feed";

const bins = 90;

/** How many events there were in each second or more, of those that are held. */
export function Rates({ entries }: { entries: Entry[] }) {
  const { times, all, bad } = useMemo(() => binned(entries), [entries]);
  return (
    <Chart
      title="Events over time"
      times={times}
      height={72}
      format={count}
      series={[
        { name: "events", colour: "accent", values: all, bars: true },
        { name: "failed, denied, alerts", colour: "bad", values: bad, bars: true },
      ]}
    />
  );
}

function binned(entries: Entry[]): { times: number[]; all: number[]; bad: number[] } {
  const newest = Math.ceil((date(entries[0]?.event.time)?.getTime() ?? Date.now()) / 1000);
  const oldest = (date(entries.at(-1)?.event.time)?.getTime() ?? 0) / 1000;
  const width = [1, 2, 5, 10, 30, 60, 300].find((w) => newest - oldest <= w * bins) ?? 900;
  const end = Math.ceil(newest / width) * width;
  const times = Array.from({ length: bins }, (_, i) => end - (bins - i) * width);
  const all = times.map(() => 0);
  const bad = times.map(() => 0);
  for (const { event } of entries) {
    const t = (date(event.time)?.getTime() ?? 0) / 1000;
    const i = Math.floor((t - times[0]!) / width);
    if (i < 0 || i >= bins) continue;
    all[i]! += event.count;
    const l = line(event);
    if (l.failed || l.tone === "alarm" || l.tone === "loss") bad[i]! += event.count;
  }
  return { times, all, bad };
}
