// SPDX-License-Identifier: Apache-2.0

import { commandLine } from "../format/event";
import type { Process } from "../gen/vigie/v1/process_pb";

interface Props {
  ancestors: Process[]; // the parent first
  process: Process;
  choose?: (execId: string) => void;
  alarm?: boolean;
}

/** The processes that led to one, the first on top. */
export function Chain({ ancestors, process, choose, alarm }: Props) {
  return (
    <ol className="chain">
      {[...ancestors].reverse().map((p) => (
        <li key={p.execId}>
          <Link p={p} choose={choose} />
        </li>
      ))}
      <li className={alarm ? "here alarm" : "here"} aria-current="true">
        <Link p={process} choose={undefined} />
      </li>
    </ol>
  );
}

function Link({ p, choose }: { p: Process; choose: ((execId: string) => void) | undefined }) {
  return (
    <>
      {choose ? (
        <button type="button" className="link mono" onClick={() => choose(p.execId)}>
          {commandLine(p)}
        </button>
      ) : (
        <span className="mono">{commandLine(p)}</span>
      )}{" "}
      <span className="muted">
        {p.pid}
        {p.workload?.name && ` · ${p.workload.name}`}
        {p.uid !== 0 && ` · uid ${p.uid}`}
      </span>
    </>
  );
}
