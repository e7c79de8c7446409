import { join } from "node:path";
import { defineConfig } from "vitest/config";

export default defineConfig({
  resolve: {
    alias: { "@tabagent/client": join(import.meta.dirname, "../clients/js/src/index.ts") },
  },
  oxc: { jsx: { runtime: "automatic", importSource: "preact" } },
  build: {
    target: ["chrome123", "firefox121", "safari17.5"],
    assetsInlineLimit: 0, // the page's policy forbids data: addresses
    modulePreload: false,
    license: { fileName: "licences.md" },
    // One file of each kind, under a name of its own: they are package data of the server.
    rolldownOptions: {
      output: {
        entryFileNames: "playground.js",
        assetFileNames: "playground[extname]",
        codeSplitting: false,
      },
    },
  },
  test: {
    include: ["test/**/*.test.{ts,tsx}"],
    testTimeout: 60_000,
    hookTimeout: 60_000,
    fileParallelism: false,
  },
});
