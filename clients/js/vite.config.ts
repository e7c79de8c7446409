import { existsSync } from "node:fs";
import { playwright } from "@vitest/browser-playwright";
import { defineConfig, type TestProjectConfiguration } from "vitest/config";
import { approve } from "./test/chromium/approve.js";

const CHROMIUM = process.env.TABAGENT_CHROMIUM ?? "/usr/bin/chromium";

const inNode: TestProjectConfiguration = {
  extends: true,
  test: { name: "node", include: ["test/*.test.ts"] },
};

const inChromium: TestProjectConfiguration = {
  extends: true,
  test: {
    name: "chromium",
    include: ["test/chromium/*.test.ts"],
    browser: {
      enabled: true,
      headless: true,
      screenshotFailures: false,
      provider: playwright({
        launchOptions: {
          executablePath: CHROMIUM,
          args: ["--no-sandbox", "--disable-gpu", "--disable-quic"],
        },
      }),
      instances: [{ browser: "chromium" }],
      commands: { approve },
    },
  },
};

function projects(): TestProjectConfiguration[] {
  if (existsSync(CHROMIUM) || process.env.TABAGENT_REQUIRE_BROWSER === "1") {
    return [inNode, inChromium];
  }
  console.warn(`there is no ${CHROMIUM}: the tests in a browser are left out`);
  return [inNode];
}

export default defineConfig(({ mode }) => ({
  build: {
    target: "es2023",
    sourcemap: true,
    minify: false,
    lib: { entry: "src/index.ts", formats: ["es"], fileName: "tabagent" },
  },
  test: {
    ...(mode === "test" && { projects: projects() }),
    globalSetup: "test/global.ts",
    testTimeout: 30_000,
    hookTimeout: 60_000,
  },
}));
