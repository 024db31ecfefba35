// SPDX-License-Identifier: Apache-2.0

import type { Page } from "@playwright/test";
import { expect, open, test } from "./stage";

// The pictures of the documentation. They are made with the tests, and kept when IMAGES names a directory.
const images = process.env["IMAGES"];
test.skip(!images, "IMAGES names no directory: make images");

async function shoot(page: Page, name: string): Promise<void> {
  await page.locator(".foot").evaluate((e) => {
    e.style.visibility = "hidden"; // the name of this machine
  });
  for (const scheme of ["light", "dark"] as const) {
    await page.emulateMedia({ colorScheme: scheme });
    await page.evaluate(() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done))));
    await page.screenshot({ path: `${images}/${name}-${scheme}.png` });
  }
}

// What started the shop is of this machine, not of the picture.
async function shopOnly(page: Page): Promise<void> {
  await page.locator(".chain li").evaluateAll((list) => {
    for (const li of list) if (!li.textContent?.includes("shop-")) li.style.display = "none";
  });
}

test("map", async ({ page }) => {
  await page.setViewportSize({ width: 1360, height: 760 });
  await open(page, "map?sel=workload:/shop.slice/shop-api.service");
  await expect(page.getByRole("table", { name: "Talks to" })).toBeVisible();
  await expect(page.locator(".box")).toHaveCount(7);
  await shoot(page, "map");
});

test("timeline", async ({ page }) => {
  await page.setViewportSize({ width: 1480, height: 820 });
  await open(page, "timeline?f=workload:shop-worker.service");
  const row = page.getByRole("option").filter({ hasText: "cat" }).filter({ hasText: "/etc/shadow" }).first();
  await expect(row).toBeVisible();
  await row.click();
  await expect(page.locator(".chain")).toContainText("sh -c");
  await shopOnly(page);
  await page.getByRole("heading", { name: "Its files" }).scrollIntoViewIfNeeded();
  await shoot(page, "timeline");
});

test("policies", async ({ page }) => {
  await open(page, "policies?p=worker");
  await expect(page.getByRole("table", { name: "Recent denials" }).getByRole("row").nth(2)).toBeVisible();
  await shoot(page, "policies");
});

test("alerts", async ({ page }) => {
  await page.setViewportSize({ width: 1360, height: 640 });
  await open(page, "alerts");
  await expect(page.locator(".chain .here")).toContainText("cat /etc/shadow");
  await expect(page.locator(".chain")).toContainText("worker");
  await shopOnly(page);
  await shoot(page, "alerts");
});
