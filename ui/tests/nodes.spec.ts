// SPDX-License-Identifier: Apache-2.0

import { expect, open, relayUrl, test } from "./stage";

test("a relay tells how its nodes are doing, and which one does not answer", async ({ page }) => {
  await open(page, "health", relayUrl);
  await expect(page.getByRole("heading", { name: "Nodes: 1 of 2 connected" })).toBeVisible();
  const gone = page.getByRole("table", { name: "Nodes" }).getByRole("row").filter({ hasText: "gone" });
  await expect(gone).toContainText("unavailable");
  await expect(gone).toContainText("connection refused");
});

test("a relay's views are of all nodes, and say what is missing", async ({ page }) => {
  await open(page, "map?w=60&as=table", relayUrl);
  await expect(page.getByText("shop-api.service").first()).toBeVisible();
  await expect(page.getByRole("link", { name: "gone does not answer" })).toBeVisible();
  await open(page, "timeline", relayUrl);
  await expect(page.getByText("A node does not answer: nothing comes of gone")).toBeVisible();
});
