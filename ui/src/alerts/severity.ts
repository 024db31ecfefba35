// SPDX-License-Identifier: Apache-2.0

/** The severities, the worst first. */
export const severities = ["critical", "high", "medium", "low", "info"];

/** The tone of a severity. */
export function tone(severity: string): string {
  return { critical: "bad", high: "bad", medium: "warn" }[severity] ?? "";
}
