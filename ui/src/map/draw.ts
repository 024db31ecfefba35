// SPDX-License-Identifier: Apache-2.0

import { colours } from "../app/theme";
import { overlap, type Rectangle } from "./place";
import { along, extent, type Line, type Scene } from "./scene";
import { lineWords, portNames } from "./words";

const names = [
  "bg",
  "surface",
  "line",
  "line-strong",
  "text",
  "muted",
  "accent",
  "ok",
  "warn",
  "bad",
  "edge",
  "edge-quiet",
] as const;

/** The colours that the map is drawn with. */
export type Palette = Record<(typeof names)[number], string>;

/** Reads the colours of the theme. */
export const palette = (): Palette => colours(names);

/** What part of the map is seen: screen = map × zoom + (x, y), in CSS pixels. */
export interface View {
  x: number;
  y: number;
  zoom: number;
  width: number;
  height: number;
}

/** What stands out. An empty set of lit lines lights all. */
export interface Emphasis {
  lit: Set<string> | undefined;
  hover: string | undefined;
  found: Set<string> | undefined;
  seconds: number; // over which was counted what lines say
  far: boolean; // boxes are drawn, too
  details: boolean; // lines have arrows and ports; of maps with few of them
}

/** Below this zoom the boxes of a large map are drawn: there are too many in sight for elements of the document. */
export const farZoom = 0.7;
const nameZoom = 0.4; // below it a name in a box could not be read

/** Draws frames, lines and, from afar, boxes. */
export function draw(ctx: CanvasRenderingContext2D, s: Scene, v: View, e: Emphasis, c: Palette, ratio: number): void {
  ctx.setTransform(1, 0, 0, 1, 0, 0);
  ctx.fillStyle = c.bg;
  ctx.fillRect(0, 0, ctx.canvas.width, ctx.canvas.height);
  ctx.setTransform(ratio * v.zoom, 0, 0, ratio * v.zoom, ratio * v.x, ratio * v.y);
  const seen = {
    left: -v.x / v.zoom,
    top: -v.y / v.zoom,
    right: (v.width - v.x) / v.zoom,
    bottom: (v.height - v.y) / v.zoom,
  };
  drawFrames(ctx, s, v, c);
  const lines = s.lines.filter((l) => {
    const x = extent(l);
    return x.right > seen.left && x.left < seen.right && x.bottom > seen.top && x.top < seen.bottom;
  });
  drawLines(ctx, lines, v, e, c);
  if (e.far) drawBoxes(ctx, s, v, e, c);
  else if (e.details) drawLabels(ctx, lines, s, v, e, c);
  drawNames(ctx, s, v, c);
}

function drawFrames(ctx: CanvasRenderingContext2D, s: Scene, v: View, c: Palette): void {
  for (const [, r] of s.frames) {
    ctx.beginPath();
    ctx.roundRect(r.x, r.y, r.width, r.height, 14);
    ctx.fillStyle = c.surface;
    ctx.fill();
    ctx.strokeStyle = c.line;
    ctx.lineWidth = 1 / v.zoom;
    ctx.stroke();
  }
}

// drawNames writes the names of groups over everything else, with a rim so that lines do not cross the letters.
function drawNames(ctx: CanvasRenderingContext2D, s: Scene, v: View, c: Palette): void {
  const size = Math.max(12.5, 12 / v.zoom);
  const inside = size < 20; // from afar the name is larger than the frame's head: then it stands on its edge
  ctx.font = `600 ${size}px Inter, system-ui, sans-serif`;
  ctx.lineJoin = "round";
  ctx.lineWidth = size / 3;
  ctx.strokeStyle = c.surface;
  ctx.fillStyle = inside ? c.muted : c.text;
  for (const [name, r] of s.frames) {
    const x = r.x + (inside ? 18 : 8);
    const y = inside ? r.y + 27 : r.y + size * 0.5;
    ctx.strokeText(name || "ungrouped", x, y, r.width - 8);
    ctx.fillText(name || "ungrouped", x, y, r.width - 8);
  }
}

function dim(l: Line, e: Emphasis): boolean {
  return e.lit !== undefined && !e.lit.has(l.link.id);
}

function style(l: Line, e: Emphasis, c: Palette): [colour: string, width: number, dash: boolean] {
  const strong = e.hover === l.link.id || e.lit?.has(l.link.id) === true;
  const width = (strong ? 1.2 : 0.4) + Math.min(3, Math.log10(1 + l.link.bytes) / 3);
  if (dim(l, e)) return [c["edge-quiet"], 0.6, false];
  if (l.link.change === "new") return [c.ok, width + 0.8, false];
  if (l.link.change === "vanished") return [c.muted, width, true];
  switch (l.link.state) {
    case "denied":
      return [c.bad, width + 0.6, false];
    case "audited":
      return [c.warn, width + 0.4, false];
    case "failed":
      return [c.warn, width, true];
    default:
      return strong
        ? [c.accent, width, false]
        : e.details
          ? [c.edge, width, false]
          : [c["edge-quiet"], width * 0.7, false];
  }
}

// Lines of one look are stroked together: setting a style for each of thousands takes longer than drawing.
function drawLines(ctx: CanvasRenderingContext2D, lines: Line[], v: View, e: Emphasis, c: Palette): void {
  const looks = new Map<string, { look: [string, number, boolean]; lines: Line[] }>();
  for (const l of lines) {
    const look = style(l, e, c);
    const width = Math.round(look[1] * 2) / 2;
    const key = `${look[0]} ${width} ${look[2]} ${dim(l, e) ? 0 : 1}`;
    const same = looks.get(key) ?? { look: [look[0], width, look[2]], lines: [] };
    looks.set(key, same);
    same.lines.push(l);
  }
  const order = [...looks].sort(([a], [b]) => (a.endsWith("0") ? 0 : 1) - (b.endsWith("0") ? 0 : 1));
  for (const [, { look, lines: same }] of order) {
    const [colour, width, dash] = look;
    ctx.strokeStyle = colour;
    ctx.fillStyle = colour;
    ctx.lineWidth = Math.max(width, 0.7 / v.zoom);
    ctx.setLineDash(dash ? [6, 5] : []);
    const chunk = e.details ? same.length : 64; // a path of very many strokes is slow to fill
    for (let i = 0; i < same.length; i += chunk) {
      ctx.beginPath();
      for (const l of same.slice(i, i + chunk)) {
        ctx.moveTo(l.from.x, l.from.y);
        if (e.details) ctx.bezierCurveTo(l.leave.x, l.leave.y, l.reach.x, l.reach.y, l.to.x, l.to.y);
        else ctx.lineTo(l.to.x, l.to.y);
      }
      ctx.stroke();
    }
    ctx.setLineDash([]);
    if (e.details && v.zoom > 0.3) for (const l of same) arrow(ctx, l, width);
  }
}

function arrow(ctx: CanvasRenderingContext2D, l: Line, width: number): void {
  const long = 7 + 1.5 * width;
  const wide = long / 2;
  // A curve ends in the direction of what bends it there: along one of the axes.
  const x = Math.sign(l.reach.x - l.to.x) * long;
  const y = Math.sign(l.reach.y - l.to.y) * long;
  ctx.beginPath();
  ctx.moveTo(l.to.x, l.to.y);
  ctx.lineTo(l.to.x + x + (y ? wide : 0), l.to.y + y + (x ? wide : 0));
  ctx.lineTo(l.to.x + x - (y ? wide : 0), l.to.y + y - (x ? wide : 0));
  ctx.fill();
}

// drawLabels writes ports on lines, each where no box and no other label is.
function drawLabels(ctx: CanvasRenderingContext2D, lines: Line[], s: Scene, v: View, e: Emphasis, c: Palette): void {
  const taken: Rectangle[] = s.rects.map((b) => b.rect);
  for (const l of lines) {
    const strong = e.hover === l.link.id || e.lit?.has(l.link.id) === true;
    if (dim(l, e) || (!strong && v.zoom < 0.7)) continue;
    const text = strong ? lineWords(l.link, e.seconds) : portNames(l.link);
    const size = Math.max(11, 10.5 / v.zoom);
    ctx.font = `${strong ? 600 : 500} ${size}px Inter, system-ui, sans-serif`;
    const width = ctx.measureText(text).width + 8;
    const at = (t: number) => {
      const p = along(l, t);
      return { x: p.x - width / 2, y: p.y - size * 0.75, width, height: size * 1.5 };
    };
    const r = [0.5, 0.38, 0.62, 0.28, 0.72, 0.18, 0.82].map(at).find((x) => !taken.some((y) => overlap(x, y, 1)));
    if (!r) continue; // it is beside the box, and in the table
    taken.push(r);
    ctx.fillStyle = c.surface;
    ctx.beginPath();
    ctx.roundRect(r.x, r.y, r.width, r.height, 4);
    ctx.fill();
    ctx.fillStyle = strong ? c.text : c.muted;
    ctx.fillText(text, r.x + 4, r.y + size * 1.11);
  }
}

function drawBoxes(ctx: CanvasRenderingContext2D, s: Scene, v: View, e: Emphasis, c: Palette): void {
  const named = v.zoom >= nameZoom;
  ctx.font = "600 15px Inter, system-ui, sans-serif";
  ctx.lineWidth = 1.5;
  for (const { id, name, rect: r, state } of s.rects) {
    const faint = e.found !== undefined && !e.found.has(id);
    const tone = faint ? c.line : state === "denied" ? c.bad : state === "allowed" ? c["line-strong"] : c.warn;
    ctx.fillStyle = named ? c.surface : tone;
    ctx.fillRect(r.x, r.y, r.width, r.height);
    if (!named) continue;
    ctx.strokeStyle = tone;
    ctx.strokeRect(r.x, r.y, r.width, r.height);
    ctx.fillStyle = faint ? c.muted : c.text;
    ctx.fillText(name, r.x + 10, r.y + 31, r.width - 20);
  }
}
