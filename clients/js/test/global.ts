/** One server for all test files that do not stop or restart theirs. */

import type { TestProject } from "vitest/node";
import { Home } from "./server.js";

declare module "vitest" {
  interface ProvidedContext {
    url: string;
  }
}

export default async function setup(project: TestProject): Promise<() => Promise<void>> {
  const home = new Home();
  const server = await home.serve();
  project.provide("url", server.url);
  return async () => {
    await server.stop();
    home.remove();
  };
}
