// SPDX-License-Identifier: Apache-2.0

import { expect, open, test } from "./stage";

test("the agent tells losses, overhead by program, queues and sensors", async ({ page }) => {
  await open(page, "health");
  await expect(page.getByText("ready")).toBeVisible();
  await expect(page.getByRole("row").filter({ hasText: "vg_sys_exit" })).toContainText("ns");
  await expect(page.getByRole("progressbar", { name: "Queue telemetry ring" })).toBeVisible();
  await expect(
    page.getByRole("table", { name: "Sensors" }).getByRole("row").filter({ hasText: "socket" }),
  ).toContainText("on");
  await page.getByText("Events a second as a table").click();
  await expect(page.getByRole("table", { name: "Events a second" }).getByRole("row").nth(2)).toBeVisible();
});
