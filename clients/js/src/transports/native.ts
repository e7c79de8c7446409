/** Native Messaging: for extensions; needs no port, no address and no permission prompt. */

import { ChunkJoiner, fits, splitText } from "../chunks.js";
import { connectionFailed, connectionLost, errorFrom, TabagentError } from "../errors.js";
import type { Dialer, Transport, TransportListener } from "../transport.js";
import { type Message, newId } from "../wire.js";

/** The part of `chrome.runtime.Port` that is needed. */
export interface NativePort {
  postMessage(message: unknown): void;
  disconnect(): void;
  onMessage: { addListener(listener: (message: unknown) => void): void };
  onDisconnect: { addListener(listener: (port: NativePort) => void): void };
  /** Firefox puts the reason of a disconnect here, Chromium into `runtime.lastError`. */
  error?: { message?: string } | null;
}

/** The part of `chrome.runtime` that is needed. */
export interface NativeRuntime {
  connectNative(host: string): NativePort;
  lastError?: { message?: string } | null;
}

export interface NativeOptions {
  /** The host's name; `com.tabagent.host` by default. */
  host?: string;
  /** `chrome.runtime` by default, or `browser.runtime`. */
  runtime?: NativeRuntime;
}

/** What a browser takes in one message to a host: 64 MiB, which this stays well below. */
const MAX_MESSAGE_BYTES = 16 * 1024 * 1024;

/** Returns `chrome.runtime`, where an extension may use native messaging. */
export function nativeRuntime(): NativeRuntime | null {
  const { browser, chrome } = globalThis as {
    browser?: { runtime?: NativeRuntime };
    chrome?: { runtime?: NativeRuntime };
  };
  for (const runtime of [browser?.runtime, chrome?.runtime]) {
    if (typeof runtime?.connectNative === "function") return runtime;
  }
  return null;
}

/** Returns what opens a port to the native host, which starts the server when there is none. */
export function nativeDialer(options: NativeOptions): Dialer {
  const host = options.host ?? "com.tabagent.host";
  return {
    kind: "native",
    dial: async (listener, signal) => {
      const runtime = options.runtime ?? nativeRuntime();
      if (!runtime) throw connectionFailed("native messaging is for extensions that may use it");
      const transport = new NativeTransport(runtime, runtime.connectNative(host), listener);
      await transport.greet(signal);
      return transport;
    },
  };
}

class NativeTransport implements Transport {
  readonly kind = "native";
  readonly duplex = true;
  readonly #port: NativePort;
  readonly #joiner = new ChunkJoiner();
  #listener: TransportListener;
  #isClosed = false;

  constructor(runtime: NativeRuntime, port: NativePort, listener: TransportListener) {
    this.#port = port;
    this.#listener = listener;
    port.onMessage.addListener((message) => this.#receive(message as Message));
    port.onDisconnect.addListener(() => {
      const reason = (port.error ?? runtime.lastError)?.message ?? "the port was closed";
      if (this.#isClosed) return;
      this.#isClosed = true;
      this.#listener.onClose(connectionLost(reason));
    });
  }

  /** Resolves once the server has answered: a port is there even when there is no host. */
  greet(signal: AbortSignal): Promise<void> {
    const listener = this.#listener;
    return new Promise<void>((resolve, reject) => {
      const abort = () => reject(signal.reason);
      signal.addEventListener("abort", abort, { once: true });
      this.#listener = {
        onMessage: (message) => {
          if (message.type === "tabagent.pong") resolve();
          if (message.type === "error") {
            reject(errorFrom(message, connectionFailed("the native host refuses")));
          }
        },
        onClose: ({ message }) => reject(connectionFailed(message)),
      };
      this.send({ type: "tabagent.ping", stream_id: newId("greeting_") });
    }).then(
      () => {
        this.#listener = listener;
      },
      (error: unknown) => {
        this.close();
        throw error;
      },
    );
  }

  send(message: Message): void {
    if (this.#isClosed) return;
    const text = JSON.stringify(message);
    if (fits(text, MAX_MESSAGE_BYTES)) this.#port.postMessage(message);
    else {
      for (const chunk of splitText(text, MAX_MESSAGE_BYTES, newId("chunk_"))) {
        this.#port.postMessage(chunk);
      }
    }
  }

  close(): void {
    this.#isClosed = true;
    this.#port.disconnect();
  }

  #receive(message: Message): void {
    if (this.#isClosed) return;
    try {
      const whole = this.#joiner.receive(message);
      if (whole) this.#listener.onMessage(whole);
    } catch (error) {
      if (!(error instanceof TabagentError)) throw error;
      this.close(); // pieces are missing: only a new connection can say what was in them
      this.#listener.onClose(connectionLost(error.message, error));
    }
  }
}
