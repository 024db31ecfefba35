// SPDX-License-Identifier: Apache-2.0

import react from "@vitejs/plugin-react";
import { defineConfig } from "vitest/config";

// `npm run dev` shows the page from its sources, with the data of the agent on this host.
export default defineConfig({
  plugins: [react()],
  build: {
    target: "es2023",
    // The policy of the page allows no data: scripts and styles.
    assetsInlineLimit: 0,
    chunkSizeWarningLimit: 2000,
    license: { fileName: "licenses.md" },
    modulePreload: { polyfill: false },
  },
  server: { proxy: { "/vigie.v1.Vigie": "http://127.0.0.1:9780" } },
  test: { include: ["src/**/*.test.ts"] },
});
