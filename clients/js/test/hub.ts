/** The small Hugging Face Hub of the Python tests, with one model, in a process of its own. */

import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { join } from "node:path";
import { createInterface, type Interface } from "node:readline";
import { type Home, PYTHON, REPOSITORY } from "./server.js";

const SCRIPT = `
import pathlib, sys
from tests.hub.local_hub import Repo, local_hub

with local_hub() as hub:
    hub.repos["org/repo"] = Repo({"pulled-Q8_0.gguf": pathlib.Path(sys.argv[1]).read_bytes()})
    print(hub.url, flush=True)
    for line in sys.stdin:
        if line == "hold\\n":
            hub.release.clear()
            hub.hold_after = 1
        else:
            hub.hold_after = None
            hub.release.set()
        print("done", flush=True)
`;

/** What the model is named by there, and here once it is pulled. */
export const REFERENCE = "hf:org/repo";
export const PULLED = "pulled-Q8_0";

export class Hub {
  readonly #child: ChildProcess;
  readonly #lines: Interface;

  constructor(child: ChildProcess, lines: Interface) {
    this.#child = child;
    this.#lines = lines;
  }

  /** Starts one that has the home's model; servers of that home take it for the real one. */
  static async start(home: Home): Promise<Hub> {
    const child = spawn(PYTHON, ["-c", SCRIPT, home.model], {
      cwd: REPOSITORY,
      env: home.env,
      stdio: ["pipe", "pipe", "inherit"],
    });
    const lines = createInterface({ input: child.stdout });
    const [url] = (await once(lines, "line")) as [string];
    const cache = join(home.folder, "hf");
    Object.assign(home.env, { HF_ENDPOINT: url, HF_HOME: cache, NO_PROXY: "*" });
    return new Hub(child, lines);
  }

  /** Lets downloads stand still after their first byte. */
  hold(): Promise<unknown> {
    return this.#say("hold");
  }

  /** Lets those go on, and others run through. */
  release(): Promise<unknown> {
    return this.#say("release");
  }

  async stop(): Promise<void> {
    this.#child.stdin?.end();
    await once(this.#child, "exit");
  }

  #say(word: string): Promise<unknown> {
    const done = once(this.#lines, "line");
    this.#child.stdin?.write(`${word}\n`);
    return done;
  }
}
