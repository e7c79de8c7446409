/** What the panel and the service worker say to each other. */

import type { ErrorDetails, Model, TransportKind } from "./vendor/tabagent.js";

export interface Turn {
  role: "user" | "assistant";
  /** What the model reads or wrote. */
  text: string;
  /** What the panel shows instead, when the text is long. */
  shown?: string;
  /** What it took: tokens and their rate. */
  note?: string;
  error?: string;
}

/** Where the chat is between a question and the end of its answer. */
export interface Progress {
  text: string;
  /** From 0 to 1; null when nobody knows. */
  part: number | null;
}

export interface ChatState {
  turns: Turn[];
  /** The model's id; null for the server's first one. */
  model: string | null;
  models: Model[];
  /** Whether questions can be sent; a lost connection is mended when one is. */
  ready: boolean;
  transport: TransportKind | null;
  /** Why there is no connection. */
  problem: ErrorDetails | null;
  running: boolean;
  progress: Progress | null;
  /** Tokens per second. */
  rate: number | null;
}

export type FromPanel =
  | { type: "ask"; text: string; shown?: string }
  | { type: "stop" }
  | { type: "clear" }
  | { type: "choose"; model: string }
  | { type: "reconnect" };

export type ToPanel =
  | { type: "state"; state: ChatState }
  | { type: "delta"; text: string; rate: number | null };

export interface Settings {
  url: string;
  token: string;
}
