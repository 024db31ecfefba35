// SPDX-License-Identifier: Apache-2.0

import { expect, open, test } from "./stage";

const policy = `apiVersion: vigie.io/v1alpha1
kind: WorkloadPolicy
metadata: {name: worker}
spec:
  selector: {unit: shop-worker.service}
  mode: audit
  network:
    egress:
      allow:
      # the stock keeper
      - {to: {cidr: 127.0.0.1}, ports: 27082/tcp}
`;

test.describe.configure({ mode: "serial" });

test("a policy is checked, simulated and applied", async ({ page }) => {
  test.setTimeout(150_000); // a simulation reads what was recorded
  await open(page, "policies");
  await page.getByRole("button", { name: "New policy" }).click();
  const dialog = page.getByRole("dialog");
  await dialog.getByRole("textbox", { name: "Policy" }).fill("kind: Nonsense");
  await expect(dialog.getByRole("alert")).toBeVisible();
  await dialog.getByRole("textbox", { name: "Policy" }).fill(policy);
  await expect(dialog.getByRole("status")).toContainText("rule");
  await dialog.getByRole("button", { name: "Simulate" }).click();
  await expect(dialog.getByRole("table", { name: "What would have been denied" })).toContainText("27379", {
    timeout: 90_000,
  });
  await dialog.getByRole("button", { name: "Apply" }).click();
  await expect(dialog).toBeHidden();
  await expect(page.getByRole("table", { name: "Rules of worker" })).toContainText("denied before it happens");
});

test("what it denied is allowed by the smallest change", async ({ page }) => {
  await open(page, "policies?p=worker");
  const denials = page.getByRole("table", { name: "Recent denials" });
  const row = denials.getByRole("row").filter({ hasText: "27379" }).first();
  await expect(row).toContainText("audited");
  await row.getByRole("button", { name: "Allow this" }).click();
  const dialog = page.getByRole("dialog");
  await expect(dialog.locator(".diff .added")).toHaveCount(1);
  await expect(dialog.locator(".diff .removed")).toHaveCount(0);
  await expect(dialog.locator(".diff .added")).toContainText("ports: 27379/tcp");
  await expect(dialog.locator(".diff")).toContainText("# the stock keeper");
  await dialog.getByRole("button", { name: "Apply" }).click();
  await expect(dialog).toBeHidden();
  await expect(
    page.getByRole("table", { name: "Rules of worker" }).getByRole("row").filter({ hasText: "27379" }),
  ).toBeVisible();
});

test("the mode is switched, and a policy that enforces denies", async ({ page }) => {
  await open(page, "policies?p=worker");
  await page.getByRole("button", { name: "Enforce" }).click();
  await expect(
    page.getByRole("table", { name: "Recent denials" }).getByRole("row").filter({ hasText: "denied" }).first(),
  ).toContainText("27443");
  await open(page, "map?as=table");
  await expect(page.getByRole("row").filter({ hasText: ":27443" })).toContainText("denied");
});

test("a policy is learned of a workload", async ({ page }) => {
  await open(page, "policies?learn=shop-api.service");
  await page.getByRole("button", { name: "Learn", exact: true }).click();
  const text = page.getByRole("dialog").getByRole("textbox", { name: "Policy" });
  await expect(text).toHaveValue(/unit: shop-api\.service/, { timeout: 50_000 });
  await expect(text).toHaveValue(/27082/);
});
