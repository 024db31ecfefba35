// SPDX-License-Identifier: Apache-2.0

import { expect, test, token, url } from "./stage";

test.use({ loggedIn: false });

test("without the token the page shows nothing and says where it is", async ({ page }) => {
  await page.goto(`${url}/#/timeline`);
  await expect(page.getByRole("heading", { name: "This agent asks for its token" })).toBeVisible();
  await page.getByLabel("Token").fill("wrong");
  await page.getByRole("button", { name: "Log in" }).click();
  await expect(page.getByRole("alert")).toContainText("does not take this token");
  await page.getByLabel("Token").fill(token);
  await page.getByRole("button", { name: "Log in" }).click();
  await expect(page.getByRole("option").first()).toBeVisible();
  expect(await page.context().cookies()).toEqual([]);
  await page.getByRole("button", { name: "Log out" }).click();
  await expect(page.getByRole("heading", { name: "This agent asks for its token" })).toBeVisible();
});
