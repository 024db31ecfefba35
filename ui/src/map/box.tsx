// SPDX-License-Identifier: Apache-2.0

import type { Node, NodeProps } from "@xyflow/react";
import { memo } from "react";
import { byteRate, rate } from "../format/units";
import type { Box } from "./graph";
import { about } from "./words";

export type BoxNode = Node<
  { box: Box; speed: string; chosen: string; faint: boolean; choose: (id: string) => void },
  "box"
>;

/** How busy a box is. */
export function speed(box: Box, window: number): string {
  return box.flows ? `${rate(box.flows, window)} · ${byteRate(box.bytes, window)}` : "quiet";
}

const told = { allowed: "", failed: ", some fail", audited: ", some would be denied", denied: ", some denied" };

/** A workload or a place outside: its name, how busy it is, and its processes where they are shown. */
function BoxView({ data }: NodeProps<BoxNode>) {
  const { box, speed, chosen, faint, choose } = data;
  const { node } = box;
  const classes = ["box", node.kind, box.state, chosen === node.id && "chosen", faint && "faint"]
    .filter(Boolean)
    .join(" ");
  return (
    <div className={classes}>
      <button
        type="button"
        className="head"
        title={node.name}
        onClick={() => choose(node.id)}
        aria-pressed={chosen === node.id}
      >
        <span className="name">{node.name}</span>
        <span className="about">
          {about(node)} · {speed}
        </span>
        <span className="hidden">{told[box.state]}</span>
      </button>
      {box.processes.map((p) => (
        <button
          key={p.id}
          type="button"
          className={chosen === p.id ? "process chosen" : "process"}
          title={p.process?.binary}
          onClick={() => choose(p.id)}
          aria-pressed={chosen === p.id}
        >
          {p.name}
        </button>
      ))}
    </div>
  );
}

export const BoxCard = memo(BoxView);
