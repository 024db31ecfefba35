// SPDX-License-Identifier: Apache-2.0

import { expect, test } from "vitest";
import { byteRate, bytes, count, duration, moment, plural, rate, seconds } from "./units";

test("numbers are short", () => {
  expect([0, 7, 999, 1000, 1234567].map(count)).toEqual(["0", "7", "999", "1 k", "1.2 M"]);
  expect([0, 1023, 1536, 3 << 20].map(bytes)).toEqual(["0 B", "1023 B", "1.5 KiB", "3 MiB"]);
  expect(bytes(5_000_000_000n)).toBe("4.7 GiB");
});

test("rates fall to a minute where a second says nothing", () => {
  expect(rate(0, 300)).toBe("0/s");
  expect(rate(3, 300)).toBe("1/min");
  expect(rate(600, 300)).toBe("2/s");
  expect(rate(450_000, 300)).toBe("1.5 k/s");
  expect(byteRate(3072, 3)).toBe("1 KiB/s");
});

test("durations have two figures", () => {
  expect([900, 1500, 2_500_000, 12_000_000_000].map(duration)).toEqual(["900 ns", "1.5 µs", "2.5 ms", "12 s"]);
  expect([59, 61, 7500, 90_000, 180_000].map(seconds)).toEqual(["59 s", "1 min", "2 h 5 min", "25 h", "2 d 2 h"]);
});

test("a moment of another day names it", () => {
  const now = new Date(2026, 10, 26, 12, 0, 0);
  expect(moment(new Date(2026, 10, 26, 3, 12, 0), now)).toBe("03:12:00");
  expect(moment(new Date(2026, 10, 25, 3, 12, 0), now)).toBe("2026-11-25 03:12:00");
});

test("one is not many", () => {
  expect(plural(1, "process", "processes")).toBe("1 process");
  expect(plural(0, "edge")).toBe("0 edges");
});
