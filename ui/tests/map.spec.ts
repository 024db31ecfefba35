// SPDX-License-Identifier: Apache-2.0

import { expect, open, test } from "./stage";

test("the map shows who talks to whom, and why a connection fails", async ({ page }) => {
  await open(page, "map");
  for (const name of ["shop-visitors", "shop-web", "shop-api", "shop-stock", "shop-redis", "shop-worker"]) {
    await expect(page.locator(".box").filter({ hasText: `${name}.service` })).toBeVisible();
  }
  await page.getByRole("button", { name: "Table" }).click();
  const rows = page.getByRole("table", { name: "Who talks to whom" }).getByRole("row");
  const refused = rows.filter({ hasText: ":27443" });
  await expect(refused).toContainText("failed");
  await expect(rows.filter({ hasText: "shop-web.service" }).filter({ hasText: ":27081" })).toContainText("allowed");
});

test("a box opens to its processes and tells its connections", async ({ page }) => {
  await open(page, "map");
  await page.getByRole("button", { name: /^shop-api.service/ }).click();
  const panel = page.getByRole("complementary", { name: "Chosen on the map" });
  await expect(panel.getByRole("table", { name: "Talks to" })).toContainText("shop-redis.service");
  await expect(panel.getByRole("table", { name: "Is talked to by" })).toContainText("shop-web.service");
  await panel.getByRole("button", { name: "Show processes" }).click();
  await expect(page.locator(".box .process").filter({ hasText: "api" })).toBeVisible();
  await panel.getByRole("link", { name: "Timeline" }).click();
  await expect(page.getByRole("option").first()).toContainText("shop-api.service");
});

test("words look for boxes without taking others away", async ({ page }) => {
  await open(page, "map");
  await expect(page.locator(".box").filter({ hasText: "shop-redis" })).toBeVisible();
  await page.keyboard.press("/");
  const search = page.getByRole("combobox", { name: "Search and filter" });
  await expect(search).toBeFocused();
  await search.pressSequentially(" redis");
  await search.press("Enter");
  await expect(page.getByText("1 match")).toBeVisible();
  await expect(page.locator(".box.faint").filter({ hasText: "shop-web" })).toBeVisible();
  await expect(page.locator(".box:not(.faint)").filter({ hasText: "shop-redis" })).toBeVisible();
});

test("boxes stand where they stood when the page is loaded again", async ({ page }) => {
  await open(page, "map");
  const box = page.locator(".react-flow__node").filter({ hasText: "shop-stock" });
  const place = () => box.evaluate((e) => (e as HTMLElement).style.transform);
  await expect(box).toBeVisible();
  const before = await place();
  await page.reload();
  await expect(box).toBeVisible();
  expect(await place()).toBe(before);
});

test("the map as it was, and what is new since", async ({ page }) => {
  await open(page, "map");
  await expect(page.locator(".box").filter({ hasText: "shop-web" })).toBeVisible();
  const past = new Date(Date.now() - 2000).toISOString();
  await open(page, `map?at=${past}&w=60`);
  await expect(page.getByText(/as it was at/)).toBeVisible();
  await expect(page.locator(".box").filter({ hasText: "shop-web" })).toBeVisible();
  // An hour ago there was no shop: all of it is new.
  await open(page, "map?vs=3600&w=60&as=table");
  await expect(page.getByRole("row").filter({ hasText: "shop-api.service" }).first()).toContainText("new");
  await page.getByRole("button", { name: "Only changes" }).click();
  await expect(page.getByRole("row").filter({ hasText: "shop-api.service" }).first()).toContainText("new");
});

test("a filter that is not understood says what to write", async ({ page }) => {
  await open(page, "map");
  const search = page.getByRole("combobox", { name: "Search and filter" });
  await search.fill("wrkload:x");
  await search.press("Enter");
  await expect(page.getByRole("alert")).toContainText("the keys are workload");
});
