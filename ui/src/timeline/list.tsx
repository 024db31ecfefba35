// SPDX-License-Identifier: Apache-2.0

import { memo, useEffect, useRef, useState } from "react";
import { line, processName } from "../format/event";
import { clock, count } from "../format/units";
import type { Event } from "../gen/vigie/v1/event_pb";
import type { Entry } from "./feed";

interface Props {
  entries: Entry[];
  chosen: number | undefined;
  choose: (e: Entry) => void;
}

/** Events as rows, newest on top. Only those in sight are in the document. While one reads further down, the list stands. */
export function EventList({ entries, chosen, choose }: Props) {
  const box = useRef<HTMLDivElement>(null);
  const [view, setView] = useState({ top: 0, height: 600, row: 30 });
  const [held, setHeld] = useState<Entry[]>();
  const shown = held ?? entries;
  const fresh = held && entries[0] ? entries[0].id - (held[0]?.id ?? 0) : 0;
  useEffect(() => {
    const element = box.current!;
    const measure = () =>
      setView((v) => ({ ...v, height: element.clientHeight, row: element.clientWidth < 620 ? 52 : 30 }));
    measure();
    const sizes = new ResizeObserver(measure);
    sizes.observe(element);
    return () => sizes.disconnect();
  }, []);
  const toTop = () => {
    setHeld(undefined);
    box.current!.scrollTop = 0;
  };
  const from = Math.max(0, Math.floor(view.top / view.row) - 8);
  const visible = shown.slice(from, from + Math.ceil(view.height / view.row) + 16);
  const onKey = (e: React.KeyboardEvent) => {
    const step = { ArrowDown: 1, ArrowUp: -1, PageDown: 15, PageUp: -15, j: 1, k: -1 }[e.key];
    if (step === undefined || shown.length === 0) return;
    e.preventDefault();
    const at = shown.findIndex((x) => x.id === chosen);
    const to = Math.max(0, Math.min(shown.length - 1, at < 0 ? 0 : at + step));
    setHeld(shown);
    choose(shown[to]!);
    const y = to * view.row;
    const element = box.current!;
    if (y < element.scrollTop) element.scrollTop = y;
    else if (y + view.row > element.scrollTop + view.height) element.scrollTop = y + view.row - view.height;
  };
  return (
    <div className="events">
      {fresh > 0 && (
        <button type="button" className="fresh primary" onClick={toTop}>
          ↑ {count(fresh)} new
        </button>
      )}
      <div
        ref={box}
        className={view.row > 40 ? "rows tall" : "rows"}
        role="listbox"
        aria-label="Events, newest first"
        aria-activedescendant={chosen !== undefined ? `event-${chosen}` : undefined}
        tabIndex={0}
        onKeyDown={onKey}
        onScroll={(e) => {
          const top = e.currentTarget.scrollTop;
          setView((v) => ({ ...v, top }));
          if (top < view.row / 2) setHeld(undefined);
          else if (!held) setHeld(entries);
        }}
      >
        <div className="sheet" style={{ height: shown.length * view.row }}>
          <div className="slice" style={{ transform: `translateY(${from * view.row}px)` }}>
            {visible.map((x, i) => (
              <div
                key={x.id}
                id={`event-${x.id}`}
                role="option"
                aria-selected={x.id === chosen}
                aria-posinset={from + i + 1}
                aria-setsize={shown.length}
                tabIndex={-1}
                className="event"
                onClick={() => {
                  setHeld(shown);
                  choose(x);
                }}
                onKeyDown={() => {}}
              >
                <Cells event={x.event} />
              </div>
            ))}
          </div>
        </div>
      </div>
    </div>
  );
}

const Cells = memo(function Cells({ event }: { event: Event }) {
  const l = line(event);
  const p = event.process;
  return (
    <>
      <time>{clock(event.time)}</time>
      <span className="who" title={[event.node, p?.workload?.name].filter(Boolean).join(" ")}>
        {event.node && <span className="muted">{event.node} </span>}
        {p?.workload?.name ?? ""}
      </span>
      <span className="process-name" title={p?.binary}>
        {p ? processName(p) : ""}
        {p && <span className="muted"> {p.pid}</span>}
      </span>
      <span className={`verb ${l.failed ? "bad" : l.tone}`}>{l.verb}</span>
      <span className="what" title={`${l.object} ${l.detail}`}>
        {event.count > 1 && <b>×{count(event.count)} </b>}
        {l.object} <span className={l.failed ? "bad" : "muted"}>{l.detail}</span>
      </span>
    </>
  );
});
