// SPDX-License-Identifier: Apache-2.0

import type { Timestamp } from "@bufbuild/protobuf/wkt";

/** 1234567 → "1.2 M"; counts and rates. */
export function count(n: number | bigint): string {
  return scaled(Number(n), 1000, ["", "k", "M", "G", "T"]);
}

/** 1536 → "1.5 KiB". */
export function bytes(n: number | bigint): string {
  return scaled(Number(n), 1024, ["B", "KiB", "MiB", "GiB", "TiB"]);
}

/** Something per second; empty for nothing. */
export function rate(n: number, seconds: number): string {
  const r = seconds > 0 ? n / seconds : 0;
  if (r === 0) return "0/s";
  return r < 0.1 ? `${count(Math.max(1, Math.round(r * 60)))}/min` : `${r < 10 ? trim(r.toFixed(1)) : count(r)}/s`;
}

/** Bytes per second. */
export function byteRate(n: number, seconds: number): string {
  return `${bytes(seconds > 0 ? n / seconds : 0)}/s`;
}

/** Nanoseconds → "1.2 ms". */
export function duration(ns: number | bigint): string {
  const n = Number(ns);
  if (n < 1e3) return `${Math.round(n)} ns`;
  if (n < 1e6) return `${digits(n / 1e3)} µs`;
  if (n < 1e9) return `${digits(n / 1e6)} ms`;
  return seconds(n / 1e9);
}

/** Seconds → "3.1 s", "4 min", "2 h 5 min", "3 d 1 h". */
export function seconds(s: number): string {
  if (s < 60) return `${digits(s)} s`;
  const min = Math.floor(s / 60);
  if (min < 60) return `${min} min`;
  const h = Math.floor(min / 60);
  if (h < 48) return min % 60 ? `${h} h ${min % 60} min` : `${h} h`;
  return h % 24 ? `${Math.floor(h / 24)} d ${h % 24} h` : `${Math.floor(h / 24)} d`;
}

/** A share as "1.2 %". */
export function percent(part: number): string {
  return `${digits(part * 100)} %`;
}

/** A moment of the API. */
export function date(t: Timestamp | undefined): Date | undefined {
  return t && new Date(Number(t.seconds) * 1000 + t.nanos / 1e6);
}

/** "15:04:05.123" of the local day. */
export function clock(t: Timestamp | undefined): string {
  const d = date(t);
  return d ? `${time(d)}.${String(d.getMilliseconds()).padStart(3, "0")}` : "";
}

/** "15:04:05". */
export function time(d: Date): string {
  return [d.getHours(), d.getMinutes(), d.getSeconds()].map((n) => String(n).padStart(2, "0")).join(":");
}

/** "2026-11-26 15:04:05"; without the day when it is today. */
export function moment(d: Date, now = new Date()): string {
  if (d.toDateString() === now.toDateString()) return time(d);
  const day = [d.getFullYear(), d.getMonth() + 1, d.getDate()].map((n) => String(n).padStart(2, "0")).join("-");
  return `${day} ${time(d)}`;
}

/** "3 min ago". */
export function ago(t: Timestamp | undefined, now = Date.now()): string {
  const d = date(t);
  if (!d) return "";
  const s = (now - d.getTime()) / 1000;
  return s < 1 ? "now" : `${seconds(Math.floor(s))} ago`;
}

/** "1 process", "3 processes". */
export function plural(n: number, one: string, many = `${one}s`): string {
  return `${count(n)} ${n === 1 ? one : many}`;
}

function scaled(n: number, base: number, units: string[]): string {
  let i = 0;
  while (Math.abs(n) >= base && i < units.length - 1) {
    n /= base;
    i++;
  }
  return `${i === 0 ? trim(n.toFixed(n < 10 ? 1 : 0)) : digits(n)} ${units[i]}`.trim();
}

function digits(n: number): string {
  return trim(n < 10 ? n.toFixed(1) : n.toFixed(0));
}

function trim(s: string): string {
  return s.replace(/\.0+$/, "");
}
