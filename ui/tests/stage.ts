// SPDX-License-Identifier: Apache-2.0

import { test as base, expect, type Page } from "@playwright/test";

/** Where the agent of the stage is, its token, where a relay for it is, and where the made-up one is. */
export const url = need("VIGIE_URL");
export const token = need("VIGIE_TOKEN");
export const relayUrl = need("VIGIE_RELAY_URL");
export const largeUrl = need("VIGIE_LARGE_URL");

function need(name: string): string {
  const value = process.env[name];
  if (!value) throw new Error(`${name} is not set: run make test-ui`);
  return value;
}

/** What is of the shop: the host has other things to say. */
export const shop = "workload:shop-*";

/** A page that may complain of nothing and ask nobody else, logged in. */
export const test = base.extend<{ loggedIn: boolean }>({
  loggedIn: [true, { option: true }],
  page: async ({ page, loggedIn }, use) => {
    const complaints: string[] = [];
    page.on("pageerror", (e) => complaints.push(`error: ${e.message}`));
    page.on("console", (m) => {
      // The browser tells of each answer that is a refusal: no token, a policy with a mistake.
      if (m.type() === "error" && !/status of 40[01]/.test(m.text())) complaints.push(`console: ${m.text()}`);
    });
    page.on("request", (r) => {
      if (![url, relayUrl, largeUrl].some((u) => r.url().startsWith(u)) && !/^(data|blob):/.test(r.url()))
        complaints.push(`asks ${r.url()}`);
    });
    if (loggedIn) await page.addInitScript((t) => sessionStorage.setItem("vigie.token", t), token);
    await use(page);
    expect(complaints).toEqual([]);
  },
});

/** Opens a view of the page: "map", "timeline?kind=Files". What is of the shop, unless it says otherwise. */
export async function open(page: Page, view: string, at = url): Promise<void> {
  const [name, query = ""] = view.split("?");
  const params = new URLSearchParams(query);
  if (!params.has("f")) params.set("f", shop);
  await page.goto(`${at}/#/${name}?${params}`);
  await page.reload(); // the address after the '#' alone loads nothing
}

export { expect };
