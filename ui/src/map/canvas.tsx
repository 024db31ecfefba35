// SPDX-License-Identifier: Apache-2.0

import { useStoreApi } from "@xyflow/react";
import { useEffect, useRef } from "react";
import { onColours } from "../app/theme";
import { draw, type Emphasis, palette } from "./draw";
import type { Scene } from "./scene";

/**
 * Frames and lines, below the boxes. They are drawn on a canvas because thousands of lines as elements of the document
 * cannot be moved 60 times a second. What they say is in the table and beside each box.
 */
export function MapCanvas({ scene, emphasis }: { scene: Scene; emphasis: Emphasis }) {
  const canvas = useRef<HTMLCanvasElement>(null);
  const store = useStoreApi();
  const shown = useRef({ scene, emphasis });
  const redraw = useRef(() => {});
  shown.current = { scene, emphasis };

  useEffect(() => {
    const element = canvas.current!;
    const ctx = element.getContext("2d", { alpha: false })!;
    let colours = palette();
    let frame = 0;
    const paint = () => {
      frame = 0;
      const { width, height, transform } = store.getState();
      const ratio = devicePixelRatio;
      const w = Math.round(width * ratio);
      const h = Math.round(height * ratio);
      if (element.width !== w) element.width = w;
      if (element.height !== h) element.height = h;
      const [x, y, zoom] = transform;
      draw(ctx, shown.current.scene, { x, y, zoom, width, height }, shown.current.emphasis, colours, ratio);
    };
    redraw.current = () => {
      frame ||= requestAnimationFrame(paint);
    };
    let seen = store.getState();
    const stop = store.subscribe((s) => {
      if (s.transform !== seen.transform || s.width !== seen.width || s.height !== seen.height) redraw.current();
      seen = s;
    });
    const stopColours = onColours(() => {
      colours = palette();
      redraw.current();
    });
    redraw.current();
    return () => {
      stop();
      stopColours();
      cancelAnimationFrame(frame);
    };
  }, [store]);
  // biome-ignore lint/correctness/useExhaustiveDependencies: what is drawn has changed
  useEffect(() => redraw.current(), [scene, emphasis]);
  return <canvas ref={canvas} className="lines" aria-hidden="true" />;
}
