// SPDX-License-Identifier: Apache-2.0

import { useEffect, useId, useRef, useState } from "react";
import { type Key, keys, parse } from "./parse";
import { suggestions } from "./suggest";

/** The filter of all views: text with the names of the command line's flags, and what could be meant while one types. */
export function FilterBar({ text, set }: { text: string; set: (text: string) => void }) {
  const [draft, setDraft] = useState(text);
  const [open, setOpen] = useState(false);
  const [at, setAt] = useState(-1);
  const input = useRef<HTMLInputElement>(null);
  const menu = useId();
  useEffect(() => setDraft(text), [text]);
  useEffect(() => focusOnSlash(input), []);
  const error = parse(draft).error;
  const offers = open ? suggestions(draft) : [];
  const commit = (value: string) => {
    setDraft(value);
    if (!parse(value).error) set(value.trim());
  };
  const take = (value: string) => {
    setAt(-1);
    if (value.endsWith(":")) setDraft(value);
    else commit(value);
    input.current?.focus();
  };
  const onKey = (e: React.KeyboardEvent) => {
    if (e.key === "ArrowDown" || e.key === "ArrowUp") {
      e.preventDefault();
      setOpen(true);
      const n = offers.length;
      if (n) setAt((i) => (i + (e.key === "ArrowDown" ? 1 : -1) + n + 1) % (n + 1));
    } else if (e.key === "Enter") {
      const offer = offers[at];
      if (offer) take(offer.text);
      else {
        commit(draft);
        setOpen(false);
      }
    } else if (e.key === "Escape") {
      if (open) setOpen(false);
      else commit("");
    }
  };
  return (
    <search className="filter">
      <input
        ref={input}
        type="text"
        role="combobox"
        aria-label="Search and filter"
        aria-expanded={offers.length > 0}
        aria-controls={menu}
        aria-autocomplete="list"
        aria-activedescendant={offers[at] ? `${menu}-${at}` : undefined}
        aria-invalid={!open && error !== undefined}
        placeholder="Search, or workload:nginx* addr:10.0.0.0/8 …"
        spellCheck={false}
        autoComplete="off"
        value={draft}
        onChange={(e) => {
          setDraft(e.target.value);
          setOpen(true);
          setAt(-1);
          if (e.target.value === "") set("");
        }}
        onFocus={() => setOpen(true)}
        onBlur={() => {
          setOpen(false);
          commit(draft);
        }}
        onKeyDown={onKey}
      />
      <kbd className="wide" aria-hidden="true">
        /
      </kbd>
      {offers.length > 0 && (
        <div className="menu" role="listbox" id={menu} aria-label="Suggestions">
          {offers.map((o, i) => (
            <div
              key={o.text}
              id={`${menu}-${i}`}
              role="option"
              tabIndex={-1}
              aria-selected={i === at}
              // The input keeps the focus: a blur would close the list before the click.
              onMouseDown={(e) => {
                e.preventDefault();
                take(o.text);
              }}
            >
              <span className="mono">{o.label}</span>
              <span className="muted">{o.about}</span>
              <span className="muted mono wide">{o.key ? keys[o.key as Key].example : ""}</span>
            </div>
          ))}
        </div>
      )}
      {!open && error && (
        <p className="menu bad" role="alert">
          {error}
        </p>
      )}
    </search>
  );
}

function focusOnSlash(input: { current: HTMLInputElement | null }): () => void {
  const onKey = (e: KeyboardEvent) => {
    const typing = e.target instanceof HTMLElement && /^(INPUT|TEXTAREA|SELECT)$/.test(e.target.tagName);
    if (e.key === "/" && !typing && !e.ctrlKey && !e.metaKey && !e.altKey) {
      e.preventDefault();
      input.current?.focus();
    }
  };
  addEventListener("keydown", onKey);
  return () => removeEventListener("keydown", onKey);
}
