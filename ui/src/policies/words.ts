// SPDX-License-Identifier: Apache-2.0

import type { Policy } from "../gen/vigie/v1/policy_pb";

/** The tone of a policy's state. */
export function state(p: Policy): string {
  return { "in force": "ok", degraded: "warn", failed: "bad" }[p.state] ?? "";
}

/** What the policy does about what it denies. */
export function mode(p: Policy): string {
  return p.mode === "enforce" ? "enforces" : "watches only";
}

/** How often all of its rules decided. */
export function hits(p: Policy): number {
  return p.rules.reduce((n, r) => n + Number(r.hits), 0);
}

/** The tone of a guarantee: the strongest is the calmest. */
export function guarantee(text: string): string {
  if (text.startsWith("denied before")) return "ok";
  if (text.startsWith("killed before")) return "accent";
  return text === "seen only" ? "" : "warn";
}
