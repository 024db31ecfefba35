// SPDX-License-Identifier: Apache-2.0

import type { Page } from "./route";

const paths: Record<Page, string> = {
  map: "M5 6a2 2 0 1 0 0-.01M19 8a2 2 0 1 0 0-.01M12 18a2 2 0 1 0 0-.01M7 6l10 2M6 8l5 8M18 10l-5 6",
  timeline: "M4 6h10M4 12h16M4 18h7",
  policies: "M12 3l7 3v5c0 5-3 8-7 10-4-2-7-5-7-10V6zM9 12l2 2 4-4",
  alerts: "M12 4l9 16H3zM12 10v4M12 17v.01",
  health: "M3 12h4l2-6 4 12 2-6h6",
};

/** The icon of a page in the navigation. */
export function Icon({ page }: { page: Page }) {
  return (
    <svg viewBox="0 0 24 24" aria-hidden="true">
      <path d={paths[page]} />
    </svg>
  );
}
