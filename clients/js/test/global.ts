/** One server for all test files that do not stop or restart theirs. */

import type { TestProject } from "vitest/node";
import { Home } from "./server.js";

declare module "vitest" {
  interface ProvidedContext {
    url: string;
    token: string;
  }
}

const TOKEN = "secret";

export default async function setup(project: TestProject): Promise<() => Promise<void>> {
  const home = new Home();
  const server = await home.serve("--token", TOKEN);
  project.provide("url", server.url);
  project.provide("token", TOKEN);
  return async () => {
    await server.stop();
    home.remove();
  };
}
