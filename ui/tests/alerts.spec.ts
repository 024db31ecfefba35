// SPDX-License-Identifier: Apache-2.0

import { expect, open, test } from "./stage";

test("an alert shows the chain of processes that led there", async ({ page }) => {
  await open(page, "alerts");
  const alert = page.getByRole("article");
  await expect(alert.getByRole("heading", { level: 2 })).toContainText("password hashes", { timeout: 40_000 });
  const chain = alert.locator(".chain");
  await expect(chain.getByRole("listitem").filter({ hasText: "worker" }).first()).toBeVisible();
  await expect(chain.locator(".here")).toContainText("cat /etc/shadow");
  await expect(alert).toContainText("T1003.008");
  await alert.getByRole("link", { name: "What it did" }).click();
  await expect(page.getByRole("option").filter({ hasText: "/etc/shadow" }).first()).toBeVisible();
});

test("the detections are listed with what they found", async ({ page }) => {
  await open(page, "alerts?as=rules");
  const row = page.getByRole("row").filter({ hasText: "password_file_read" });
  await expect(row).toContainText("high");
});
