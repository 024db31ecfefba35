// SPDX-License-Identifier: Apache-2.0

import { defineConfig } from "@playwright/test";

// The tests run on the stage that test/web sets: make test-ui. The browser is Debian's.
export default defineConfig({
  testDir: "tests",
  timeout: 60_000,
  expect: { timeout: 20_000 },
  workers: 1,
  reporter: [["list"]],
  use: {
    viewport: { width: 1360, height: 850 },
    launchOptions: {
      executablePath: process.env["CHROMIUM"] ?? "/usr/bin/chromium",
      args: process.getuid?.() === 0 ? ["--no-sandbox"] : [],
    },
  },
});
