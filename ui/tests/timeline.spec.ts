// SPDX-License-Identifier: Apache-2.0

import { expect, open, test } from "./stage";

test("a connection leads to its process, its ancestors, its other connections and files", async ({ page }) => {
  await open(page, "timeline?f=workload:shop-worker.service&kind=Processes");
  const cat = page.getByRole("option").filter({ hasText: "cat /etc/shadow" }).first();
  await expect(cat).toBeVisible({ timeout: 30_000 });
  await cat.click();
  const side = page.getByRole("complementary", { name: "Process" });
  const chain = side.locator(".chain");
  await expect(chain).toContainText("sh -c");
  await expect(chain.locator(".here")).toContainText("cat /etc/shadow");
  await expect(side.getByText("/etc/shadow", { exact: true })).toBeVisible();
  await chain.getByRole("button", { name: /worker/ }).click();
  await expect(side.getByRole("heading", { level: 2 })).toContainText("worker");
  await expect(side).toContainText("tcp 127.0.0.1:27379");
});

test("kinds and filters take what they name, and the address keeps them", async ({ page }) => {
  await open(page, "timeline");
  await page.getByRole("button", { name: "Flows" }).click();
  await expect(page.getByRole("option").first()).toContainText("flow");
  await expect(
    page.getByRole("option").filter({ hasText: "shop-web.service → shop-api.service" }).first(),
  ).toBeVisible();
  await page.reload();
  await expect(page.getByRole("button", { name: "Flows" })).toHaveAttribute("aria-pressed", "true");
  await expect(page.getByRole("option").first()).toContainText("flow");
});

test("a time that is over is read from history and stands", async ({ page }) => {
  await open(page, "timeline?f=workload:shop-* until:2s");
  await expect(page.getByRole("option").first()).toContainText("shop-");
  await expect(page.getByText("past", { exact: true })).toBeVisible();
});

test("words search the names in a row", async ({ page }) => {
  await open(page, "timeline?f=shadow");
  await expect(page.getByRole("option").filter({ hasText: "/etc/shadow" }).first()).toBeVisible({ timeout: 30_000 });
});

test("the list is read with the keyboard and stands meanwhile", async ({ page }) => {
  await open(page, "timeline");
  await expect(page.getByRole("option").nth(10)).toBeVisible();
  const list = page.getByRole("listbox", { name: "Events, newest first" });
  await list.focus();
  await page.keyboard.press("ArrowDown");
  await page.keyboard.press("ArrowDown");
  const chosen = page.locator('[role="option"][aria-selected="true"]');
  await expect(chosen).toHaveAttribute("aria-posinset", "2");
  await expect(page.getByRole("button", { name: /new$/ })).toBeVisible();
  await expect(chosen).toHaveAttribute("aria-posinset", "2");
});

test("the tree shows what runs", async ({ page }) => {
  await open(page, "timeline");
  const tree = page.locator(".tree");
  await expect(tree.getByRole("button", { name: /^api/ })).toBeVisible();
  await expect(tree.getByRole("button", { name: /^visitors/ })).toBeVisible();
});
