// SPDX-License-Identifier: Apache-2.0

import { type Key, keys } from "./parse";

/** Something that the text could become. */
export interface Offer {
  text: string; // the whole text with it
  label: string;
  about: string;
  key?: Key;
}

/** A name that the shown view knows: a workload, a program, a place outside. */
export interface Known {
  key: Key;
  value: string;
  about: string;
}

let known: Known[] = [];

/** Tells the filter which names there are in the view that is shown. */
export function offerNames(names: Known[]): void {
  known = names;
}

/** What the last word of text could become: names that contain it, and keys that begin with it. */
export function suggestions(text: string): Offer[] {
  const m = /^(.*?)(\S*)$/s.exec(text);
  const before = m?.[1] ?? "";
  const word = (m?.[2] ?? "").toLowerCase();
  const [, key, value] = /^([a-z-]+):(.*)$/.exec(word) ?? [];
  const offers: Offer[] = [];
  const names = known.filter(
    (k) => (key === undefined ? word !== "" : k.key === key) && k.value.toLowerCase().includes(value ?? word),
  );
  for (const k of names.slice(0, 8)) {
    const quoted = /\s/.test(k.value) ? `'${k.value}'` : k.value;
    offers.push({ text: `${before}${k.key}:${quoted}`, label: `${k.key}:${quoted}`, about: k.about });
  }
  if (key === undefined) {
    for (const k of Object.keys(keys) as Key[]) {
      if (k.startsWith(word)) offers.push({ text: `${before}${k}:`, label: `${k}:`, about: keys[k].about, key: k });
    }
  }
  return offers.slice(0, 14);
}
