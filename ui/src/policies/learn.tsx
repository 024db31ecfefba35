// SPDX-License-Identifier: Apache-2.0

import { useState } from "react";
import { explain, vigie } from "../api/client";
import { useCall } from "../api/use";
import { plural } from "../format/units";
import { Dialog } from "../parts/dialog";
import { Failure } from "../parts/empty";
import type { Draft } from "./editor";

/** Asks of which workload to learn, and opens what was learned. */
export function Learn({ workload, close, edit }: { workload: string; close: () => void; edit: (d: Draft) => void }) {
  const [name, setName] = useState(workload);
  const [error, setError] = useState<string>();
  const [busy, setBusy] = useState(false);
  const known = useCall("workloads", async (signal) => {
    const { processes } = await vigie.listProcesses({ pageSize: 10_000 }, { signal });
    return [...new Set(processes.filter((p) => !p.kernelThread).map((p) => p.workload?.name ?? ""))]
      .filter(Boolean)
      .sort();
  });
  const learn = async () => {
    setBusy(true);
    setError(undefined);
    try {
      const got = await vigie.learnPolicy({ workload: name });
      close();
      edit({
        title: `Learned of ${name}, from ${plural(Number(got.events), "event")}`,
        after: got.yaml,
        notes: got.notes,
      });
    } catch (err) {
      setError(explain(err));
      setBusy(false);
    }
  };
  return (
    <Dialog
      title="Learn a policy"
      close={close}
      foot={
        <>
          <span className="grow" />
          <button type="button" className="primary" disabled={!name || busy} onClick={learn}>
            {busy ? "Learning …" : "Learn"}
          </button>
        </>
      }
    >
      <p className="muted">
        The policy allows what the agent remembers of the workload, and nothing more. It comes in mode audit: it
        watches, and denies nothing until you say so.
      </p>
      <label>
        Workload
        <input
          type="text"
          list="workloads"
          value={name}
          onChange={(e) => setName(e.target.value)}
          placeholder="nginx.service"
        />
        <datalist id="workloads">
          {known.data?.map((w) => (
            <option key={w} value={w} />
          ))}
        </datalist>
      </label>
      <Failure error={error ?? known.error} />
    </Dialog>
  );
}
