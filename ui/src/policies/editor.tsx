// SPDX-License-Identifier: Apache-2.0

import { timestampFromDate } from "@bufbuild/protobuf/wkt";
import { useState } from "react";
import { explain, vigie } from "../api/client";
import { useCall } from "../api/use";
import { plural } from "../format/units";
import type { SimulatePoliciesResponse } from "../gen/vigie/v1/policy_pb";
import { Dialog } from "../parts/dialog";
import { Failure } from "../parts/empty";
import { diff } from "./diff";
import { Simulated } from "./simulated";
import { guarantee } from "./words";

/** A text that may become a policy. */
export interface Draft {
  title: string;
  before?: string; // what is in force; the difference to it is shown
  after: string;
  warning?: string | undefined;
  notes?: string[];
}

/** Shows what would change, what carries it here, what it would have denied; then brings it in force. */
export function Editor({ draft, close }: { draft: Draft; close: (applied: boolean) => void }) {
  const [text, setText] = useState(draft.after);
  const changing = draft.before !== undefined && draft.before !== draft.after;
  const [writing, setWriting] = useState(!changing);
  const [busy, setBusy] = useState("");
  const [hours, setHours] = useState(1);
  const [error, setError] = useState<string>();
  const [simulated, setSimulated] = useState<SimulatePoliciesResponse>();
  const check = useCall(text.trim() ? text : null, async (signal) => {
    await new Promise((done) => setTimeout(done, 300)); // until one stops typing
    signal.throwIfAborted();
    return (await vigie.applyPolicies({ yaml: text, dryRun: true, source: "page.yaml" }, { signal })).policies;
  });
  const run = async (doing: string, what: () => Promise<void>) => {
    setBusy(doing);
    setError(undefined);
    try {
      await what();
    } catch (err) {
      setError(explain(err));
    }
    setBusy("");
  };
  const simulate = () =>
    run("Simulating …", async () => {
      const since = hours ? timestampFromDate(new Date(Date.now() - hours * 3_600_000)) : undefined;
      setSimulated(await vigie.simulatePolicies({ yaml: text, source: "page.yaml", ...(since && { since }) }));
    });
  const apply = () =>
    run("Applying …", async () => {
      await vigie.applyPolicies({ yaml: text, source: "page.yaml" });
      close(true);
    });
  const wrong = check.error !== undefined && !check.loading;
  return (
    <Dialog
      title={draft.title}
      close={() => close(false)}
      foot={
        <>
          <span className="grow muted" role="status">
            {busy || (check.loading ? "Checking …" : wrong ? "" : summary(check.data ?? []))}
          </span>
          <button type="button" onClick={() => navigator.clipboard?.writeText(text)}>
            Copy
          </button>
          <label>
            <span className="hidden">Simulate on</span>
            <select value={hours} onChange={(e) => setHours(Number(e.target.value))}>
              <option value={1}>the last hour</option>
              <option value={24}>the last day</option>
              <option value={0}>all that is kept</option>
            </select>
          </label>
          <button type="button" disabled={busy !== "" || wrong} onClick={simulate}>
            Simulate
          </button>
          <button type="button" className="primary" disabled={busy !== "" || wrong} onClick={apply}>
            Apply
          </button>
        </>
      }
    >
      {draft.warning && <p className="notice">{draft.warning}</p>}
      {draft.notes?.map((n) => (
        <p key={n} className="notice">
          {n}
        </p>
      ))}
      {changing && (
        <div className="row">
          <button type="button" aria-pressed={!writing} onClick={() => setWriting(false)}>
            Difference
          </button>
          <button type="button" aria-pressed={writing} onClick={() => setWriting(true)}>
            Text
          </button>
        </div>
      )}
      {writing ? (
        <textarea
          aria-label="Policy"
          rows={16}
          spellCheck={false}
          value={text}
          onChange={(e) => setText(e.target.value)}
        />
      ) : (
        <Difference before={draft.before ?? ""} after={text} />
      )}
      {wrong && <Failure error={check.error} />}
      <Failure error={error && hint(error)} />
      {simulated && <Simulated answer={simulated} />}
    </Dialog>
  );
}

function hint(error: string): string {
  if (!error.includes("--token-file")) return error;
  return `${error}. Or copy the text to the host: sudo vigie policy apply -f FILE`;
}

function summary(policies: { rules: { guarantee: string }[] }[]): string {
  const rules = policies.flatMap((p) => p.rules);
  const strong = rules.filter((r) => guarantee(r.guarantee) === "ok").length;
  return rules.length ? `${plural(rules.length, "rule")}, ${strong} denied before it happens here` : "";
}

function Difference({ before, after }: { before: string; after: string }) {
  const lines = diff(before, after);
  const sign = { same: " ", added: "+", removed: "−", gap: " " };
  return (
    // biome-ignore lint/a11y/noNoninteractiveTabindex: it scrolls
    <section className="diff mono" tabIndex={0} aria-label="What changes">
      {lines.map((l, i) => (
        <span key={i} className={l.kind}>
          {sign[l.kind]} {l.text}
        </span>
      ))}
    </section>
  );
}
