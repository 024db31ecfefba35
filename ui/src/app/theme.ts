// SPDX-License-Identifier: Apache-2.0

import { useEffect, useState } from "react";

/** What the user chose; "system" follows the system. */
export type Theme = "system" | "light" | "dark";

const key = "vigie.theme";

/** The chosen theme, and a function that goes on to the next. It is kept in this browser. */
export function useTheme(): [Theme, () => void] {
  const [theme, setTheme] = useState<Theme>(() => {
    const t = localStorage.getItem(key);
    return t === "light" || t === "dark" ? t : "system";
  });
  useEffect(() => {
    document.documentElement.dataset["theme"] = theme;
    localStorage.setItem(key, theme);
    dispatchEvent(new Event("themechange"));
  }, [theme]);
  return [theme, () => setTheme(theme === "system" ? "dark" : theme === "dark" ? "light" : "system")];
}

/** Calls f when colours change, by choice or by the system. */
export function onColours(f: () => void): () => void {
  const media = matchMedia("(prefers-color-scheme: dark)");
  media.addEventListener("change", f);
  addEventListener("themechange", f);
  return () => {
    media.removeEventListener("change", f);
    removeEventListener("themechange", f);
  };
}

/** Reads colours of the style sheet as they are now, for what is drawn by hand. */
export function colours<K extends string>(names: readonly K[]): Record<K, string> {
  const probe = document.createElement("span");
  document.body.append(probe);
  const out = {} as Record<K, string>;
  for (const name of names) {
    probe.style.color = `var(--${name})`;
    out[name] = getComputedStyle(probe).color;
  }
  probe.remove();
  return out;
}
