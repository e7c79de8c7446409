import { defineConfig } from "vitest/config";

export default defineConfig({
  build: {
    target: "es2023",
    sourcemap: true,
    minify: false,
    lib: { entry: "src/index.ts", formats: ["es"], fileName: "tabagent" },
  },
  test: {
    include: ["test/**/*.test.ts"],
    globalSetup: "test/global.ts",
    testTimeout: 30_000,
    hookTimeout: 60_000,
  },
});
