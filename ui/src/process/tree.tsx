// SPDX-License-Identifier: Apache-2.0

import { useMemo, useState } from "react";
import { vigie } from "../api/client";
import { useCall } from "../api/use";
import { parse } from "../filter/parse";
import { commandLine, processName } from "../format/event";
import { plural } from "../format/units";
import type { Process } from "../gen/vigie/v1/process_pb";
import { Empty, Failure, Loading } from "../parts/empty";

interface Row {
  p: Process;
  depth: number;
  children: number;
}

/** What runs, as a tree. A filter leaves the processes that pass it, with those that led to them. */
export function ProcessTree({
  text,
  chosen,
  choose,
}: {
  text: string;
  chosen: string;
  choose: (execId: string) => void;
}) {
  const [closed, setClosed] = useState<ReadonlySet<string>>(new Set());
  const call = useCall(
    "tree",
    async (signal) => (await vigie.listProcesses({ pageSize: 10_000 }, { signal })).processes,
    3000,
  );
  const rows = useMemo(
    () =>
      rowsOf(
        (call.data ?? []).filter((p) => !p.kernelThread),
        text,
        closed,
      ),
    [call.data, text, closed],
  );
  if (!call.data) return call.error ? <Failure error={call.error} retry={call.reload} /> : <Loading />;
  if (rows.length === 0)
    return <Empty title="No process passes this filter">Those that ended are in the timeline.</Empty>;
  const turn = (id: string) =>
    setClosed((before) => {
      const after = new Set(before);
      if (!after.delete(id)) after.add(id);
      return after;
    });
  return (
    <>
      <p className="muted">{plural(rows.length, "process", "processes")}, kernel threads left out</p>
      <ul className="tree">
        {rows.slice(0, 1500).map(({ p, depth, children }) => (
          <li key={p.execId} className={`depth-${Math.min(depth, 12)}`}>
            {children > 0 ? (
              <button
                type="button"
                className="fold"
                aria-expanded={!closed.has(p.execId)}
                aria-label={`Children of ${processName(p)} ${p.pid}`}
                onClick={() => turn(p.execId)}
              >
                {closed.has(p.execId) ? "▸" : "▾"}
              </button>
            ) : (
              <span className="fold" />
            )}
            <button
              type="button"
              className="name"
              aria-pressed={chosen === p.execId}
              title={commandLine(p)}
              onClick={() => choose(p.execId)}
            >
              {processName(p)} <span className="muted">{p.pid}</span>
            </button>
          </li>
        ))}
      </ul>
    </>
  );
}

function rowsOf(list: Process[], text: string, closed: ReadonlySet<string>): Row[] {
  const byPid = new Map(list.map((p) => [p.pid, p]));
  const children = new Map<number, Process[]>();
  const roots: Process[] = [];
  for (const p of list) {
    const parent = p.parent && byPid.has(p.parent.pid) && p.parent.pid !== p.pid ? p.parent.pid : undefined;
    if (parent === undefined) roots.push(p);
    else children.set(parent, [...(children.get(parent) ?? []), p]);
  }
  const keep = text ? kept(list, text, byPid) : undefined;
  const rows: Row[] = [];
  const walk = (p: Process, depth: number) => {
    if (keep && !keep.has(p.pid)) return;
    const below = (children.get(p.pid) ?? []).filter((c) => !keep || keep.has(c.pid));
    rows.push({ p, depth, children: below.length });
    if (!closed.has(p.execId)) for (const c of below) walk(c, depth + 1);
  };
  for (const p of roots) walk(p, 0);
  return rows;
}

// kept are the processes that pass the filter, by what a tree can judge here, and their ancestors.
function kept(list: Process[], text: string, byPid: Map<number, Process>): Set<number> {
  const { filter, words } = parse(text);
  const glob = (pattern: string, value: string) =>
    new RegExp(
      `^${pattern
        .replace(/[.+^${}()|[\]\\]/g, "\\$&")
        .replaceAll("*", ".*")
        .replaceAll("?", ".")}$`,
    ).test(value);
  const some = <T,>(wanted: T[], holds: (w: T) => boolean) => wanted.length === 0 || wanted.some(holds);
  const keep = new Set<number>();
  for (const p of list) {
    const name = `${commandLine(p)} ${p.binary} ${p.workload?.name ?? ""}`.toLowerCase();
    const passes =
      some(filter.workloadNames, (w) => glob(w, p.workload?.name ?? "")) &&
      some(filter.workloadKinds, (k) => k === p.workload?.kind) &&
      some(filter.binaries, (b) => glob(b, b.includes("/") ? p.binary : processName(p))) &&
      some(filter.uids, (u) => u === p.uid) &&
      some(filter.execIds, (id) => id === p.execId) &&
      some(filter.pidTrees, (pid) => descends(p, pid, byPid)) &&
      words.every((w) => name.includes(w.toLowerCase()));
    if (!passes) continue;
    for (let at: Process | undefined = p; at && !keep.has(at.pid); at = at.parent && byPid.get(at.parent.pid))
      keep.add(at.pid);
  }
  return keep;
}

function descends(p: Process, pid: number, byPid: Map<number, Process>): boolean {
  const seen = new Set<number>();
  for (let at: Process | undefined = p; at && !seen.has(at.pid); at = at.parent && byPid.get(at.parent.pid)) {
    if (at.pid === pid) return true;
    seen.add(at.pid);
  }
  return false;
}
