/** The installed native host, started as a browser starts it. */

import { type ChildProcess, spawn } from "node:child_process";
import { readFileSync, writeFileSync } from "node:fs";
import { endianness } from "node:os";
import { join } from "node:path";
import type { NativePort, NativeRuntime } from "../src/index.js";
import type { Home } from "./server.js";

const EXTENSION = "abcdefghijklmnopabcdefghijklmnop";
const MAX_FRAME_TO_BROWSER = 1024 * 1024;

/** Settles how a server runs that is started by a host. */
export function configureServer(home: Home, ...models: string[]): void {
  const settings = { model: [home.model, ...models], port: 0, threads: 1 };
  const lines = Object.entries(settings).map(([key, value]) => `${key} = ${JSON.stringify(value)}`);
  writeFileSync(join(home.folder, "config.toml"), lines.join("\n"));
}

/** Returns the manifest that an installation for Chromium has written. */
export function hostManifest(home: Home, host = "com.tabagent.host"): string {
  return join(home.env.XDG_CONFIG_HOME, "chromium/NativeMessagingHosts", `${host}.json`);
}

/** Installs the host into a home. */
export function installHost(home: Home): void {
  configureServer(home);
  home.run("host", "install", EXTENSION, "--browser", "chromium");
}

/** `chrome.runtime` as far as native messaging goes. */
export class Runtime implements NativeRuntime {
  /** The sizes of the frames that came from the host. */
  readonly frames: number[] = [];
  readonly hosts: ChildProcess[] = [];
  lastError: { message: string } | null = null;
  readonly #home: Home;

  constructor(home: Home) {
    this.#home = home;
  }

  connectNative(host: string): NativePort {
    const manifest = JSON.parse(readFileSync(hostManifest(this.#home, host), "utf8"));
    const child = spawn(manifest.path, manifest.allowed_origins.slice(0, 1), {
      env: this.#home.env,
      stdio: ["pipe", "pipe", "inherit"],
    });
    this.hosts.push(child);
    return new Port(child, this);
  }

  /** Ends the hosts that run, as a crash does. */
  kill(): void {
    for (const host of this.hosts) host.kill("SIGKILL");
  }
}

/** One port and its process. */
class Port implements NativePort {
  readonly #child: ChildProcess;
  readonly #runtime: Runtime;
  readonly #onMessage: ((message: unknown) => void)[] = [];
  readonly #onDisconnect: ((port: NativePort) => void)[] = [];
  readonly onMessage = { addListener: this.#onMessage.push.bind(this.#onMessage) };
  readonly onDisconnect = { addListener: this.#onDisconnect.push.bind(this.#onDisconnect) };
  #rest = Buffer.alloc(0);
  #isDisconnected = false;

  constructor(child: ChildProcess, runtime: Runtime) {
    this.#child = child;
    this.#runtime = runtime;
    child.stdin?.on("error", () => {}); // the end of the process tells
    child.stdout?.on("data", (data: Buffer) => this.#receive(data));
    child.stdout?.on("close", () => this.#end());
  }

  postMessage(message: unknown): void {
    const text = Buffer.from(JSON.stringify(message));
    const header = Buffer.alloc(4);
    header[endianness() === "LE" ? "writeUInt32LE" : "writeUInt32BE"](text.length);
    this.#child.stdin?.write(Buffer.concat([header, text]));
  }

  disconnect(): void {
    this.#isDisconnected = true;
    this.#child.stdin?.end();
  }

  #receive(data: Buffer): void {
    this.#rest = Buffer.concat([this.#rest, data]);
    while (this.#rest.length >= 4) {
      const size = this.#rest[endianness() === "LE" ? "readUInt32LE" : "readUInt32BE"](0);
      if (this.#rest.length < 4 + size) return;
      const message = JSON.parse(this.#rest.toString("utf8", 4, 4 + size));
      this.#rest = this.#rest.subarray(4 + size);
      this.#runtime.frames.push(size);
      if (size > MAX_FRAME_TO_BROWSER)
        this.#child.kill(); // as browsers do
      else if (!this.#isDisconnected) for (const listener of this.#onMessage) listener(message);
    }
  }

  #end(): void {
    if (this.#isDisconnected) return;
    this.#runtime.lastError = { message: "Native host has exited." };
    for (const listener of this.#onDisconnect) listener(this);
    this.#runtime.lastError = null;
  }
}
