/** Real servers for tests: `tabagent serve` with a model whose answer is known. */

import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { createInterface } from "node:readline";
import { PIECES } from "./answer.js";

export { ANSWER, counted } from "./answer.js";

export const REPOSITORY = resolve(import.meta.dirname, "../../..");

/** The interpreter that has `tabagent`; `make` installs it into `.venv`. */
export const PYTHON = process.env.TABAGENT_PYTHON ?? join(REPOSITORY, ".venv/bin/python");

/** A folder that holds everything a server of a test's own reads and writes. */
export class Home {
  readonly folder = mkdtempSync(join(tmpdir(), "tabagent-js-"));
  readonly model = join(this.folder, "chain.gguf");
  readonly env: NodeJS.ProcessEnv & { XDG_CONFIG_HOME: string } = {
    ...process.env,
    TABAGENT_HOME: this.folder,
    HOME: this.folder,
    XDG_CONFIG_HOME: join(this.folder, ".config"),
  };

  /** Writes a model that counts so far. */
  constructor(pieces = PIECES) {
    if (!existsSync(PYTHON)) throw new Error(`no ${PYTHON}: run make, or set TABAGENT_PYTHON`);
    this.#write(this.model, pieces);
  }

  /** Writes one more, into the folder whose models every server here knows; returns its path. */
  addModel(id: string, pieces: number): string {
    const folder = join(this.folder, "models");
    mkdirSync(folder, { recursive: true });
    const path = join(folder, `${id}.gguf`);
    this.#write(path, pieces);
    return path;
  }

  /** Runs `tabagent`; returns what it prints. */
  run(...words: string[]): string {
    const options = { cwd: this.folder, env: this.env, encoding: "utf8" } as const;
    return execFileSync(PYTHON, ["-m", "tabagent", ...words], options);
  }

  /** Starts a server; by default with the model `chain`. */
  async serve(...flags: string[]): Promise<Server> {
    const models = flags.includes("--no-model") ? [] : ["--model", this.model];
    // One compute thread: two wait for each other where other programs keep the cores busy.
    const words = ["serve", ...models, "--port", "0", "--threads", "1", ...flags];
    const child = spawn(PYTHON, ["-m", "tabagent", ...words], {
      cwd: this.folder,
      env: this.env,
      stdio: ["ignore", "ignore", "pipe"],
    });
    const said: string[] = [];
    for await (const line of createInterface({ input: child.stderr })) {
      said.push(line);
      const ready = /ready at (http:\S+)/.exec(line);
      if (ready?.[1]) {
        child.stderr.resume();
        const server = new Server(child, ready[1]);
        this.env.TABAGENT_PORT = String(server.port); // where `run` finds it
        return server;
      }
    }
    throw new Error(`the server did not start:\n${said.join("\n")}`);
  }

  #write(path: string, pieces: number): void {
    const script =
      "import sys, pathlib; from tests.gguf_fixtures import numbered_pieces, write_chain; " +
      `write_chain(pathlib.Path(sys.argv[1]), numbered_pieces(${pieces}), sampling={"temp": 0.0})`;
    execFileSync(PYTHON, ["-c", script, path], { cwd: REPOSITORY, env: this.env });
  }

  remove(): void {
    rmSync(this.folder, { recursive: true, force: true });
  }
}

/** A running server. */
export class Server {
  readonly url: string;
  readonly #child: ChildProcess;

  constructor(child: ChildProcess, url: string) {
    this.#child = child;
    this.url = url;
  }

  get port(): number {
    return Number(new URL(this.url).port);
  }

  async stop(signal: NodeJS.Signals = "SIGTERM"): Promise<void> {
    if (this.#child.exitCode !== null || this.#child.signalCode !== null) return;
    this.#child.kill(signal);
    await once(this.#child, "exit");
  }
}
