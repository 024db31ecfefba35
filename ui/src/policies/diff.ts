// SPDX-License-Identifier: Apache-2.0

/** A line of a difference. */
export interface Line {
  kind: "same" | "added" | "removed" | "gap";
  text: string;
}

const context = 3; // lines around a change

/** The difference of two texts that differ in one place, with some lines around it. */
export function diff(before: string, after: string): Line[] {
  const a = before.trimEnd().split("\n");
  const b = after.trimEnd().split("\n");
  let head = 0;
  while (head < a.length && head < b.length && a[head] === b[head]) head++;
  let tail = 0;
  while (tail < a.length - head && tail < b.length - head && a[a.length - 1 - tail] === b[b.length - 1 - tail]) tail++;
  const line = (kind: Line["kind"]) => (text: string) => ({ kind, text });
  const from = Math.max(0, head - context);
  const to = Math.min(a.length, a.length - tail + context);
  return [
    ...(from > 0 ? [line("gap")(`⋯ ${from} lines`)] : []),
    ...a.slice(from, head).map(line("same")),
    ...a.slice(head, a.length - tail).map(line("removed")),
    ...b.slice(head, b.length - tail).map(line("added")),
    ...a.slice(a.length - tail, to).map(line("same")),
    ...(to < a.length ? [line("gap")(`⋯ ${a.length - to} lines`)] : []),
  ];
}
