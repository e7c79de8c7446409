/** What moves messages: the interface that every transport implements. */

import type { TabagentError } from "./errors.js";
import type { Message } from "./wire.js";

export type TransportKind = "native" | "ws" | "http" | "webrtc";

/** One open way to the server. */
export interface Transport {
  readonly kind: TransportKind;
  /**
   * Whether this is one lasting connection. Then it is kept alive, and responses outlive it: they
   * are resumed on the next one. Otherwise each request stands alone.
   */
  readonly duplex: boolean;
  /** Sends one message; after the end it does nothing. */
  send(message: Message): void;
  /** Ends it; the listener is not told. */
  close(): void;
}

/** Who takes what a transport receives. */
export interface TransportListener {
  onMessage(message: Message): void;
  /** The transport has ended by itself, once. */
  onClose(reason: TabagentError): void;
}

/**
 * Opens a transport; rejects with the reason as a `TabagentError`. Messages come only after it has
 * resolved.
 */
export interface Dialer {
  readonly kind: TransportKind;
  dial(listener: TransportListener, signal: AbortSignal): Promise<Transport>;
}
