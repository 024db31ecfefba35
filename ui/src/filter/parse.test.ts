// SPDX-License-Identifier: Apache-2.0

import { expect, test } from "vitest";
import { parse, parseForEvents, time, withTerm } from "./parse";

const now = new Date(2026, 10, 26, 12, 0, 0);

test("keys are the command line's flags", () => {
  const { filter, words, error } = parse(
    `workload:nginx*,web binary:curl pid:12 uid:0,33 addr::443 slow type:exec`,
    now,
  );
  expect(error).toBeUndefined();
  expect(words).toEqual(["slow"]);
  expect(filter.workloadNames).toEqual(["nginx*", "web"]);
  expect(filter.binaries).toEqual(["curl"]);
  expect(filter.pidTrees).toEqual([12]);
  expect(filter.uids).toEqual([0, 33]);
  expect(filter.addresses).toEqual([":443"]);
  expect(filter.types).toEqual(["exec"]);
});

test("quotes keep an expression together", () => {
  expect(parse(`where:'process.uid == 0u && count > 1u'`, now).filter.where).toBe("process.uid == 0u && count > 1u");
  expect(parse(`where:'a' where:"b"`, now).filter.where).toBe("(a) && (b)");
});

test("words become a part of where in lists of events", () => {
  const where = parseForEvents(`where:'count > 1u' a"b`, now).filter.where;
  expect(where).toContain("(count > 1u) && (");
  expect(where).toContain(`process.binary.contains("a\\"b")`);
});

test("errors name the term and say what to write", () => {
  expect(parse("wrkload:x", now).error).toContain(`"wrkload:" is not known: the keys are workload`);
  expect(parse("pid:x", now).error).toBe(`"pid:x" is no number: write pid:4711`);
  expect(parse("since:soon", now).error).toContain("write 10m, 15:04");
  expect(parse("path:", now).error).toContain("has no value");
});

test("times are those of the command line", () => {
  expect(time("10m", now)).toEqual(new Date(2026, 10, 26, 11, 50, 0));
  expect(time("03:12", now)).toEqual(new Date(2026, 10, 26, 3, 12, 0));
  expect(time("13:00", now)).toEqual(new Date(2026, 10, 25, 13, 0, 0));
  expect(time("2026-01-31T15:04:05Z", now)?.toISOString()).toBe("2026-01-31T15:04:05.000Z");
  expect(time("x", now)).toBeUndefined();
});

test("a term replaces what was there for its key", () => {
  expect(withTerm("workload:a slow", "workload", "b c")).toBe("slow workload:'b c'");
  expect(withTerm("type:exec x", "type", "")).toBe("x");
});
