/** Chooses a transport and connects. */

import { Client, type ClientOptions } from "./client.js";
import type { Dialer, TransportKind } from "./transport.js";
import { httpDialer } from "./transports/http.js";
import { type NativeOptions, nativeDialer, nativeRuntime } from "./transports/native.js";
import { type WebRtcOptions, webRtcDialer } from "./transports/webrtc.js";
import { type WebSocketOptions, webSocketDialer } from "./transports/ws.js";

/** Where the server is, and how to reach it. */
export interface ConnectOptions
  extends ClientOptions,
    NativeOptions,
    Partial<Omit<WebSocketOptions & WebRtcOptions, "url">> {
  /**
   * `auto`, the default: native messaging where there is any, else WebSocket, else HTTP. WebRTC is
   * for who asks for it: it takes longer to connect and needs one of these to do so.
   */
  via?: TransportKind | "auto";
  /** The server's address; `http://127.0.0.1:8484` by default. Native messaging needs none. */
  url?: string;
  /** Gives up connecting. */
  signal?: AbortSignal;
}

const DEFAULT_URL = "http://127.0.0.1:8484";

/** Resolves to a connected client; rejects with a `TabagentError` that says why there is none. */
export async function connect(options: ConnectOptions = {}): Promise<Client> {
  const client = new Client(dialers(options), options);
  try {
    await client.open(options.signal);
  } catch (error) {
    client.close();
    throw error;
  }
  return client;
}

function dialers(options: ConnectOptions): Dialer[] {
  const { via = "auto" } = options;
  const server = { ...options, url: (options.url ?? DEFAULT_URL).replace(/\/+$/, "") };
  const all = [nativeDialer(options), webSocketDialer(server), httpDialer(server)];
  if (via === "webrtc") return [webRtcDialer(server)];
  if (via !== "auto") return all.filter(({ kind }) => kind === via);
  const hasNative = Boolean(options.runtime ?? nativeRuntime());
  return all.filter(({ kind }) => kind !== "native" || hasNative);
}
