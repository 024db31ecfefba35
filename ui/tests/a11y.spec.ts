// SPDX-License-Identifier: Apache-2.0

import AxeBuilder from "@axe-core/playwright";
import { expect, open, test } from "./stage";

const views: [name: string, view: string, there: string][] = [
  ["map", "map", ".box"],
  ["map as a table", "map?as=table", "td"],
  ["timeline", "timeline", ".event"],
  ["policies", "policies", "h1"],
  ["alerts", "alerts", ".alert-row"],
  ["detections", "alerts?as=rules", "td"],
  ["health", "health", "td"],
];

for (const scheme of ["light", "dark"] as const) {
  for (const [name, view, there] of views) {
    test(`${name} in ${scheme} colours has nothing that axe finds`, async ({ page }) => {
      await page.emulateMedia({ colorScheme: scheme });
      await open(page, view);
      await expect(page.locator(there).first()).toBeVisible({ timeout: 40_000 });
      const found = await new AxeBuilder({ page }).analyze();
      expect(found.violations.map((v) => `${v.id}: ${v.nodes.map((n) => n.target).join("; ")}`)).toEqual([]);
    });
  }
}

test("on a phone nothing is wider than the screen", async ({ page }) => {
  await page.setViewportSize({ width: 360, height: 740 });
  for (const [, view, there] of views) {
    await open(page, view);
    await expect(page.locator(there).first()).toBeVisible();
    expect(await page.evaluate(() => document.documentElement.scrollWidth)).toBeLessThanOrEqual(360);
  }
});
