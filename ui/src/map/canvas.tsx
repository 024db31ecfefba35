// SPDX-License-Identifier: Apache-2.0

import { useStoreApi } from "@xyflow/react";
import { useEffect, useRef } from "react";
import { onColours } from "../app/theme";
import { draw, type Emphasis, palette, type View } from "./draw";
import type { Scene } from "./scene";

const margin = 0.4; // of the stage on each side: so far one can move what is drawn before it has to be drawn anew
const quick = 5; // milliseconds: what takes less is drawn for every frame
const rest = 120; // milliseconds after the last movement

/**
 * Frames and lines, below the boxes. They are drawn on a canvas because thousands of lines as elements of the document
 * cannot be moved 60 times a second. A large map is not drawn for every frame either: the drawing is moved, and made anew
 * when the hand rests. What the lines say is in the table and beside each box.
 */
export function MapCanvas({ scene, emphasis }: { scene: Scene; emphasis: Emphasis }) {
  const canvas = useRef<HTMLCanvasElement>(null);
  const store = useStoreApi();
  const shown = useRef({ scene, emphasis });
  const drawer = useRef<Drawer | null>(null);
  shown.current = { scene, emphasis };

  useEffect(() => {
    const d = new Drawer(canvas.current!, () => shown.current);
    drawer.current = d;
    const look = () => {
      const { width, height, transform } = store.getState();
      d.look({ x: transform[0], y: transform[1], zoom: transform[2], width, height });
    };
    const stop = store.subscribe(look);
    const stopColours = onColours(() => d.recolour());
    look();
    return () => {
      stop();
      stopColours();
      d.close();
    };
  }, [store]);
  // biome-ignore lint/correctness/useExhaustiveDependencies: what is drawn has changed
  useEffect(() => drawer.current?.redraw(), [scene, emphasis]);
  return <canvas ref={canvas} className="lines" aria-hidden="true" />;
}

class Drawer {
  private readonly ctx: CanvasRenderingContext2D;
  private colours = palette();
  private view: View = { x: 0, y: 0, zoom: 1, width: 0, height: 0 };
  private drawn: View | undefined; // what the canvas shows
  private cost = 0; // milliseconds, of the last drawing
  private frame = 0;
  private timer = 0;

  constructor(
    private readonly canvas: HTMLCanvasElement,
    private readonly shown: () => { scene: Scene; emphasis: Emphasis },
  ) {
    this.ctx = canvas.getContext("2d", { alpha: false })!;
  }

  /** The part of the map that is to be seen from now on. */
  look(v: View): void {
    const before = this.view;
    if (
      v.x === before.x &&
      v.y === before.y &&
      v.zoom === before.zoom &&
      v.width === before.width &&
      v.height === before.height
    )
      return;
    this.view = v;
    if (this.cost < quick || !this.covers(v)) this.redraw();
    else {
      this.move();
      clearTimeout(this.timer);
      this.timer = window.setTimeout(() => this.redraw(), rest);
    }
  }

  /** Draws with the next frame. */
  redraw(): void {
    this.frame ||= requestAnimationFrame(() => this.paint());
  }

  recolour(): void {
    this.colours = palette();
    this.redraw();
  }

  close(): void {
    cancelAnimationFrame(this.frame);
    clearTimeout(this.timer);
  }

  private paint(): void {
    this.frame = 0;
    const start = performance.now();
    const { x, y, zoom, width, height } = this.view;
    const ratio = devicePixelRatio;
    const mx = Math.round(width * margin);
    const my = Math.round(height * margin);
    const v = { x: x + mx, y: y + my, zoom, width: width + 2 * mx, height: height + 2 * my };
    const w = Math.round(v.width * ratio);
    const h = Math.round(v.height * ratio);
    if (this.canvas.width !== w || this.canvas.height !== h) {
      this.canvas.width = w;
      this.canvas.height = h;
      Object.assign(this.canvas.style, {
        left: `${-mx}px`,
        top: `${-my}px`,
        width: `${v.width}px`,
        height: `${v.height}px`,
      });
    }
    const { scene, emphasis } = this.shown();
    draw(this.ctx, scene, v, emphasis, this.colours, ratio);
    this.drawn = this.view;
    this.move();
    this.cost = performance.now() - start;
    if (scene.lines.length > 0) performance.mark("map drawn");
  }

  // move puts the drawing where the view is now.
  private move(): void {
    const d = this.drawn;
    if (!d) return;
    const { x, y, zoom, width, height } = this.view;
    const k = zoom / d.zoom;
    const mx = Math.round(width * margin);
    const my = Math.round(height * margin);
    this.canvas.style.transform = `translate(${x - k * (d.x + mx) + mx}px, ${y - k * (d.y + my) + my}px) scale(${k})`;
  }

  // covers tells whether the drawing, moved, still fills the stage.
  private covers(v: View): boolean {
    const d = this.drawn;
    if (!d || d.width !== v.width || d.height !== v.height) return false;
    const k = v.zoom / d.zoom;
    if (k > 2) return false;
    const left = v.x - k * (d.x + v.width * margin);
    const top = v.y - k * (d.y + v.height * margin);
    const side = 1 + 2 * margin;
    return left <= 0 && top <= 0 && left + k * v.width * side >= v.width && top + k * v.height * side >= v.height;
  }
}
