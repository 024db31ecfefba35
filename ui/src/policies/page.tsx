// SPDX-License-Identifier: Apache-2.0

import { useState } from "react";
import { vigie } from "../api/client";
import { useCall } from "../api/use";
import { useRoute } from "../app/route";
import { count, plural } from "../format/units";
import type { Policy } from "../gen/vigie/v1/policy_pb";
import { Empty, Failure, Loading } from "../parts/empty";
import { PolicyDetail } from "./detail";
import { type Draft, Editor } from "./editor";
import { Learn } from "./learn";
import { hits, mode, state } from "./words";
import "./policies.css";

const skeleton = `apiVersion: vigie.io/v1alpha1
kind: WorkloadPolicy
metadata: {name: example}
spec:
  selector: {unit: example.service}
  mode: audit
  files:
    deny: [/root/.ssh/**]
`;

/** What workloads may do: which policies are in force, how strongly, and what they denied. */
export default function PoliciesPage() {
  const { params, set } = useRoute();
  const [draft, setDraft] = useState<Draft>();
  const list = useCall("policies", async (signal) => (await vigie.listPolicies({}, { signal })).policies, 5000);
  const learn = params.get("learn");
  const chosen = list.data?.find((p) => p.name === params.get("p")) ?? list.data?.[0];
  const close = (applied: boolean) => {
    setDraft(undefined);
    if (applied) list.reload();
  };
  return (
    <div className="page">
      <div className="row">
        <h1>Policies</h1>
        {list.data && <span className="muted">{plural(list.data.length, "policy", "policies")}</span>}
        <span className="grow" />
        <button type="button" onClick={() => set({ learn: "?" })}>
          Learn from a workload
        </button>
        <button type="button" onClick={() => setDraft({ title: "A new policy", after: skeleton })}>
          New policy
        </button>
      </div>
      <Failure error={list.error} retry={list.reload} />
      {!list.data && !list.error && <Loading />}
      {list.data?.length === 0 && (
        <div className="card">
          <Empty title="No policy is in force">
            Start with one that is learned: choose a workload, look at what it does, try it on what was seen, and let it
            watch in mode audit before it enforces.
          </Empty>
        </div>
      )}
      {chosen && (
        <div className="policies">
          <ul className="policy-list" aria-label="Policies">
            {list.data!.map((p) => (
              <li key={p.name}>
                <Item p={p} chosen={p.name === chosen.name} choose={() => set({ p: p.name })} />
              </li>
            ))}
          </ul>
          <PolicyDetail key={chosen.name} p={chosen} edit={setDraft} changed={list.reload} />
        </div>
      )}
      {learn !== null && (
        <Learn workload={learn === "?" ? "" : learn} close={() => set({ learn: undefined })} edit={setDraft} />
      )}
      {draft && <Editor draft={draft} close={close} />}
    </div>
  );
}

function Item({ p, chosen, choose }: { p: Policy; chosen: boolean; choose: () => void }) {
  return (
    <button type="button" className="policy-item" aria-pressed={chosen} onClick={choose}>
      <span className="row">
        <b className="grow">{p.name}</b>
        <span className={`badge ${state(p)}`}>{p.state}</span>
      </span>
      <span className="muted">{p.selector || p.kind}</span>
      <span className="muted">
        {mode(p)}, {count(hits(p))} {p.mode === "enforce" ? "denied" : "would be denied"}
      </span>
    </button>
  );
}
