// SPDX-License-Identifier: Apache-2.0

import type { ReactNode } from "react";

/** What stands where there is nothing yet: why, and what to do. */
export function Empty({ title, children }: { title: string; children?: ReactNode }) {
  return (
    <div className="empty">
      <strong>{title}</strong>
      {children && <p>{children}</p>}
    </div>
  );
}

/** Stands for what is on its way. */
export function Loading() {
  return (
    <div className="empty" role="status">
      Loading …
    </div>
  );
}

/** An error of a call, with a way to try again. */
export function Failure({ error, retry }: { error: string | undefined; retry?: () => void }) {
  if (!error) return null;
  return (
    <div className="notice bad" role="alert">
      <span className="grow">{error}</span>
      {retry && (
        <button type="button" onClick={retry}>
          Try again
        </button>
      )}
    </div>
  );
}
