// SPDX-License-Identifier: Apache-2.0

import { useEffect, useRef } from "react";
import uPlot from "uplot";
import "uplot/dist/uPlot.min.css";
import { colours, onColours } from "../app/theme";
import { time } from "../format/units";

/** A line of a chart. Its colour is a name of the style sheet. */
export interface Series {
  name: string;
  colour: "accent" | "bad" | "warn" | "ok" | "name";
  values: (number | null)[];
  bars?: boolean;
}

/** Values over time, and the same as a table for who cannot see or does not want a drawing. */
export function Chart(props: {
  title: string;
  times: number[];
  series: Series[];
  format: (n: number) => string;
  height?: number;
}) {
  const { title, times, series, format, height = 96 } = props;
  const host = useRef<HTMLDivElement>(null);
  const plot = useRef<uPlot | null>(null);
  const shape = series.map((s) => `${s.name} ${s.colour} ${s.bars}`).join();
  const latest = useRef({ times, series, format });
  latest.current = { times, series, format };
  // biome-ignore lint/correctness/useExhaustiveDependencies: shape stands for the series
  useEffect(() => {
    const element = host.current!;
    const make = () => {
      plot.current?.destroy();
      plot.current = new uPlot(options(element.clientWidth, height, latest.current), data(latest.current), element);
    };
    make();
    const sizes = new ResizeObserver(() => plot.current?.setSize({ width: element.clientWidth, height }));
    sizes.observe(element);
    const stop = onColours(make);
    return () => {
      stop();
      sizes.disconnect();
      plot.current?.destroy();
      plot.current = null;
    };
  }, [shape, height]);
  useEffect(() => plot.current?.setData(data({ times, series })), [times, series]);
  return (
    <figure className="chart">
      <div ref={host} aria-hidden="true" />
      <details>
        <summary>{title} as a table</summary>
        <table className="table">
          <caption className="hidden">{title}</caption>
          <thead>
            <tr>
              <th scope="col">Time</th>
              {series.map((s) => (
                <th key={s.name} scope="col" className="number">
                  {s.name}
                </th>
              ))}
            </tr>
          </thead>
          <tbody>
            {times
              .map((t, i) => (
                <tr key={t}>
                  <td>{time(new Date(t * 1000))}</td>
                  {series.map((s) => (
                    <td key={s.name} className="number">
                      {format(s.values[i] ?? 0)}
                    </td>
                  ))}
                </tr>
              ))
              .reverse()
              .slice(0, 30)}
          </tbody>
        </table>
      </details>
    </figure>
  );
}

function data({ times, series }: { times: number[]; series: Series[] }): uPlot.AlignedData {
  return [times, ...series.map((s) => s.values)];
}

function options(
  width: number,
  height: number,
  { series, format }: { series: Series[]; format: (n: number) => string },
): uPlot.Options {
  const c = colours(["muted", "line", "accent", "bad", "warn", "ok", "name"]);
  const font = "11px Inter, system-ui, sans-serif";
  const grid = { stroke: c.line, width: 1 };
  const bars = uPlot.paths.bars!({ size: [0.9, 8] });
  return {
    width,
    height,
    legend: { show: false },
    cursor: { show: false },
    scales: { y: { range: (_, min, max) => [Math.min(0, min), Math.max(max, 1e-9) * 1.15] } },
    axes: [
      {
        stroke: c.muted,
        font,
        grid: { show: false },
        ticks: { show: false },
        size: 20,
        values: (_, v) => v.map((t) => time(new Date(t * 1000))),
      },
      {
        stroke: c.muted,
        font,
        grid,
        ticks: { show: false },
        size: 58,
        splits: (_, __, min, max) => [min, max / 2.3, max / 1.15],
        values: (_, v) => v.map(format),
      },
    ],
    series: [
      {},
      ...series.map((s) => ({
        label: s.name,
        stroke: c[s.colour],
        width: 1.5,
        points: { show: false },
        ...(s.bars
          ? { paths: bars, fill: c[s.colour], width: 0 }
          : { fill: `color-mix(in srgb, ${c[s.colour]} 10%, transparent)` }),
      })),
    ],
  };
}
