/** Lets the origin of the tests' page call the server, as its user does. */

import type { BrowserCommand } from "vitest/node";

declare module "vitest/browser" {
  interface BrowserCommands {
    approve(url: string, origin: string): Promise<void>;
  }
}

export const approve: BrowserCommand<[url: string, origin: string]> = async (_, url, origin) => {
  const answer = await fetch(`${url}/v1/origins/approve`, {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify({ origin }),
  });
  if (!answer.ok) throw new Error(await answer.text());
};
