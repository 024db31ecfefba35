// SPDX-License-Identifier: Apache-2.0

import {
  ControlButton,
  Controls,
  type NodeTypes,
  ReactFlow,
  ReactFlowProvider,
  useReactFlow,
  useStore,
  useStoreApi,
} from "@xyflow/react";
import "@xyflow/react/dist/base.css";
import { useCallback, useEffect, useMemo, useRef, useState } from "react";
import { BoxCard, type BoxNode, speed } from "./box";
import { MapCanvas } from "./canvas";
import { type Emphasis, farZoom } from "./draw";
import { type Box, boxId, type Graph, type Link } from "./graph";
import { bounds, type Point } from "./place";
import { itemOf, lineAt, type Scene, sceneOf } from "./scene";

const nodeTypes: NodeTypes = { box: BoxCard };

interface Props {
  graph: Graph;
  boxes: Map<string, Box>;
  links: Link[];
  places: Map<string, Point>;
  laid: number; // counts the layouts of the whole map
  window: number;
  chosen: string;
  found: Set<string> | undefined;
  choose: (id: string) => void;
  move: (id: string, p: Point) => void;
}

/** The map as a drawing that one can move, zoom and take hold of. */
export function MapFlow(props: Props) {
  return (
    <ReactFlowProvider>
      <Flow {...props} />
    </ReactFlowProvider>
  );
}

function Flow(props: Props) {
  const { screenToFlowPosition, getZoom } = useReactFlow();
  const [moving, setMoving] = useState(false);
  const still = useRef(props);
  if (!moving) still.current = props; // what comes while a hand moves the map waits for it
  const { graph, boxes, links, places, window, chosen, found, choose, move } = still.current;
  const known = useRef(new Map<string, BoxNode>());
  const [hover, setHover] = useState<string>();
  const large = boxes.size > 200;
  const far = useStore((s) => large && s.transform[2] < farZoom);
  const scene = useMemo(() => sceneOf(graph, boxes, links, places), [graph, boxes, links, places]);
  const lit = useMemo(() => litLines(graph, links, chosen), [graph, links, chosen]);
  const emphasis = useMemo<Emphasis>(
    () => ({ lit, hover, found, seconds: window, far, details: links.length <= 800 }),
    [lit, hover, found, window, far, links.length],
  );
  const nodes = useMemo(
    () =>
      far && boxes.size > 200
        ? []
        : cards({ graph, boxes, places, window, chosen, found, choose, links }, known.current),
    [far, graph, boxes, places, window, chosen, found, choose, links],
  );
  const fit = useFit(scene, props.laid);
  const at = (e: React.MouseEvent) => screenToFlowPosition({ x: e.clientX, y: e.clientY });
  return (
    <div className="flow" role="application" aria-label="Map of who talks to whom. The same as a table: button Table">
      <MapCanvas scene={scene} emphasis={emphasis} />
      <ReactFlow<BoxNode>
        nodes={nodes}
        edges={[]}
        nodeTypes={nodeTypes}
        minZoom={0.03}
        maxZoom={2}
        nodesFocusable={false}
        nodesConnectable={false}
        elementsSelectable={false}
        onlyRenderVisibleElements
        deleteKeyCode={null}
        zoomOnDoubleClick={false}
        onMoveStart={() => setMoving(true)}
        onMoveEnd={() => setMoving(false)}
        onNodesChange={(changes) => {
          for (const c of changes) if (c.type === "position" && c.position) move(c.id, c.position);
        }}
        onPaneMouseMove={(e) => {
          // A large map takes longer to draw than a hand takes to move on.
          if (emphasis.details && e.buttons === 0) setHover(lineAt(scene, at(e), 7 / getZoom())?.link.id);
        }}
        onPaneMouseLeave={() => setHover(undefined)}
        onPaneClick={(e) => {
          const p = at(e);
          const box = far
            ? scene.rects.find(
                ({ rect: r }) => p.x >= r.x && p.x <= r.x + r.width && p.y >= r.y && p.y <= r.y + r.height,
              )
            : undefined;
          choose(box?.id ?? lineAt(scene, p, 7 / getZoom())?.link.id ?? "");
        }}
      >
        <Controls showInteractive={false} showFitView={false} position="bottom-right">
          <ControlButton onClick={fit} title="Show the whole map" aria-label="Show the whole map">
            <svg viewBox="0 0 24 24" aria-hidden="true">
              <path d="M3 3h7v3H6v4H3zM14 3h7v7h-3V6h-4zM3 14h3v4h4v3H3zM18 14h3v7h-7v-3h4z" />
            </svg>
          </ControlButton>
        </Controls>
      </ReactFlow>
    </div>
  );
}

// useFit is how to show the whole map. It is done by itself when the boxes have places, and again when all got others.
function useFit(scene: Scene, laid: number): () => void {
  const fitted = useRef(-1);
  const { setViewport } = useReactFlow();
  const store = useStoreApi();
  const ready = useStore((s) => s.width > 0 && s.panZoom !== null);
  const fit = useCallback(() => {
    const all = bounds(scene.frames.map(([, r]) => r));
    if (!all) return;
    const { width, height } = store.getState();
    const zoom = Math.min(1.1, (width - 32) / all.width, (height - 32) / all.height);
    void setViewport({
      x: (width - all.width * zoom) / 2 - all.x * zoom,
      y: (height - all.height * zoom) / 2 - all.y * zoom,
      zoom,
    });
  }, [scene, store, setViewport]);
  useEffect(() => {
    if (fitted.current === laid || !ready || scene.frames.length === 0) return;
    fitted.current = laid;
    fit();
  }, [scene, ready, fit, laid]);
  return fit;
}

function litLines(g: Graph, links: Link[], chosen: string): Set<string> | undefined {
  if (!chosen) return undefined;
  const node = g.nodes.get(chosen);
  const lit = links.filter((l) => {
    if (l.id === chosen) return true;
    if (!node) return false;
    if (node.parent) return l.source === chosen || l.destination === chosen;
    return boxId(g, l.source) === chosen || boxId(g, l.destination) === chosen;
  });
  return lit.length ? new Set(lit.map((l) => l.id)) : undefined;
}

// cards makes the boxes' elements. One that would look the same is the one from before, so that it is not made anew.
function cards(p: Omit<Props, "move" | "laid">, known: Map<string, BoxNode>): BoxNode[] {
  const near = neighbours(p);
  const nodes = [...p.boxes.values()].flatMap((box) => {
    const id = box.node.id;
    const position = p.places.get(id);
    if (!position) return [];
    const faint = (near !== undefined && !near.has(id)) || (p.found !== undefined && !p.found.has(id));
    const data = { box, speed: speed(box, p.window), chosen: p.chosen, faint, choose: p.choose };
    const before = known.get(id);
    if (before && before.position === position && same(before.data, data)) return [before];
    const { width, height } = itemOf(box);
    return [{ id, type: "box" as const, position, width, height, data }];
  });
  known.clear();
  for (const n of nodes) known.set(n.id, n);
  return nodes;
}

function same(a: BoxNode["data"], b: BoxNode["data"]): boolean {
  const chosen = (d: BoxNode["data"]) => [d.box.node, ...d.box.processes].find((n) => n.id === d.chosen)?.id;
  return (
    a.speed === b.speed &&
    a.faint === b.faint &&
    a.box.state === b.box.state &&
    a.box.node === b.box.node &&
    a.choose === b.choose &&
    chosen(a) === chosen(b) &&
    a.box.processes.length === b.box.processes.length &&
    a.box.processes.every((n, i) => n === b.box.processes[i])
  );
}

function neighbours({ graph, links, chosen }: Omit<Props, "move" | "laid">): Set<string> | undefined {
  const lit = litLines(graph, links, chosen);
  if (!lit) return undefined;
  const near = new Set<string>();
  for (const l of links) {
    if (!lit.has(l.id)) continue;
    near.add(boxId(graph, l.source));
    near.add(boxId(graph, l.destination));
  }
  return near;
}
