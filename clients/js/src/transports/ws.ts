/** WebSocket: for pages and extensions, and for Node 22 and newer. */

import { connectionFailed, connectionLost } from "../errors.js";
import type { ServerAddress } from "../request.js";
import type { Dialer, Transport, TransportListener } from "../transport.js";
import type { Message } from "../wire.js";
import { askAdmission } from "./http.js";

export interface WebSocketOptions extends ServerAddress {
  /** The WebSocket class to use; the global one by default. */
  WebSocket?: new (
    url: string,
    protocols: string[],
  ) => WebSocketLike;
}

/** The part of a WebSocket that is needed. */
export interface WebSocketLike {
  onopen: ((event: never) => void) | null;
  onmessage: ((event: never) => void) | null;
  onclose: ((event: never) => void) | null;
  onerror: ((event: never) => void) | null;
  send(data: string): void;
  close(): void;
}

/** The close code of a server that has not read a message for its size. */
const MESSAGE_TOO_BIG = 1009;

/** Returns what opens `/v1/responses` below the server's address. */
export function webSocketDialer(options: WebSocketOptions): Dialer {
  const url = `${options.url.replace(/^http/, "ws")}/v1/responses`;
  // Browser code can set no headers: the token travels among the sub-protocols.
  const protocols = ["realtime"];
  if (options.token) protocols.push(`openai-insecure-api-key.${options.token}`);
  return {
    kind: "ws",
    dial: async (listener, signal) => {
      const Socket = options.WebSocket ?? globalThis.WebSocket;
      if (!Socket) throw connectionFailed("there is no WebSocket here");
      const socket: WebSocketLike = new Socket(url, protocols);
      try {
        await opened(socket, signal);
      } catch (error) {
        signal.throwIfAborted();
        // A browser does not say why an upgrade was refused; the same door, asked over HTTP, does.
        await askAdmission(options, signal);
        throw connectionFailed(`no WebSocket can be opened at ${url}`, error);
      }
      return new WebSocketTransport(socket, listener);
    },
  };
}

function opened(socket: WebSocketLike, signal: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    const abort = () => socket.close();
    signal.addEventListener("abort", abort, { once: true });
    const settle = (act: () => void) => () => {
      signal.removeEventListener("abort", abort);
      act();
    };
    socket.onopen = settle(resolve);
    socket.onclose = settle(() => reject(new Error("closed before it was open")));
    socket.onerror = () => {}; // a close follows
  });
}

class WebSocketTransport implements Transport {
  readonly kind = "ws";
  readonly duplex = true;
  readonly #socket: WebSocketLike;

  constructor(socket: WebSocketLike, listener: TransportListener) {
    this.#socket = socket;
    socket.onmessage = ({ data }: { data: unknown }) => {
      listener.onMessage(JSON.parse(String(data)) as Message);
    };
    socket.onclose = ({ code }: { code: number }) => {
      if (code === MESSAGE_TOO_BIG) {
        const error = { code: "message_too_big", message: "the server takes no message that long" };
        listener.onMessage({ type: "error", error });
      }
      listener.onClose(connectionLost(`the WebSocket was closed (${code})`));
    };
  }

  send(message: Message): void {
    this.#socket.send(JSON.stringify(message)); // drops it when closed already
  }

  close(): void {
    this.#socket.onmessage = null;
    this.#socket.onclose = null;
    this.#socket.close();
  }
}
