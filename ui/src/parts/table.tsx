// SPDX-License-Identifier: Apache-2.0

import { type ReactNode, useMemo, useState } from "react";

/** A column of a table. With sort it can be ordered by. */
export interface Column<T> {
  name: string;
  cell: (row: T) => ReactNode;
  sort?: (row: T) => number | string;
  number?: boolean;
  wide?: boolean; // left out on a phone
}

/** A table that its reader can sort. Long ones show their beginning first. */
export function Table<T>(props: {
  caption: string;
  columns: Column<T>[];
  rows: T[];
  id: (row: T) => string;
  chosen?: string | undefined;
  first?: string; // the column it is ordered by at first, largest first; as given otherwise
  page?: number;
}) {
  const { columns, rows, id, chosen, page = 200 } = props;
  const [order, setOrder] = useState<{ name: string | undefined; up: boolean }>({ name: props.first, up: false });
  const [limit, setLimit] = useState(page);
  const sorted = useMemo(() => {
    const by = columns.find((c) => c.name === order.name)?.sort;
    if (!by) return rows;
    const sign = order.up ? 1 : -1;
    return [...rows].sort((a, b) => {
      const x = by(a);
      const y = by(b);
      return sign * (x < y ? -1 : x > y ? 1 : 0);
    });
  }, [rows, columns, order]);
  return (
    <div className="scroll">
      <table className="table">
        <caption className="hidden">{props.caption}</caption>
        <thead>
          <tr>
            {columns.map((c) => (
              <th
                key={c.name}
                scope="col"
                className={classes(c)}
                aria-sort={order.name === c.name ? (order.up ? "ascending" : "descending") : undefined}
              >
                {c.sort ? (
                  <button
                    type="button"
                    onClick={() => setOrder({ name: c.name, up: order.name === c.name && !order.up })}
                  >
                    {c.name}
                    {order.name === c.name && <span aria-hidden="true">{order.up ? " ↑" : " ↓"}</span>}
                  </button>
                ) : (
                  c.name
                )}
              </th>
            ))}
          </tr>
        </thead>
        <tbody>
          {sorted.slice(0, limit).map((r) => (
            <tr key={id(r)} className={chosen === id(r) ? "chosen" : undefined}>
              {columns.map((c) => (
                <td key={c.name} className={classes(c)}>
                  {c.cell(r)}
                </td>
              ))}
            </tr>
          ))}
        </tbody>
      </table>
      {sorted.length > limit && (
        <p className="row muted">
          {limit} of {sorted.length} shown.
          <button type="button" className="link" onClick={() => setLimit(limit + 5 * page)}>
            Show more
          </button>
        </p>
      )}
    </div>
  );
}

function classes<T>(c: Column<T>): string | undefined {
  return [c.number && "number", c.wide && "wide"].filter(Boolean).join(" ") || undefined;
}
