/** The messages of the `responses` protocol that this library reads and writes. */

import type { ErrorDetails } from "./errors.js";

/** One message of a connection, as a JSON object. */
export interface Message {
  type: string;
  [field: string]: unknown;
}

/** A part of a message's content. */
export interface InputText {
  type: "input_text" | "output_text";
  text: string;
}

/** One message of the conversation so far. */
export interface InputItem {
  type?: "message";
  role: "system" | "developer" | "user" | "assistant";
  content: string | InputText[];
}

/** What to answer, and how; fields not named here are passed on to the server. */
export interface ResponseRequest {
  input: string | InputItem[];
  instructions?: string;
  /** A model's id; by default the first one that the server loaded. */
  model?: string;
  max_output_tokens?: number;
  /** 0 is greedy. */
  temperature?: number;
  top_p?: number;
  top_k?: number;
  min_p?: number;
  repeat_penalty?: number;
  seed?: number;
  stop?: string | string[];
  /** `false` reads the prompt only: it warms the cache and counts tokens. */
  generate?: boolean;
  /** Comes back in the response, and in its `ResumePoint`. */
  metadata?: Record<string, string>;
  [field: string]: unknown;
}

export interface OutputText {
  type: "output_text";
  text: string;
  token_ids?: number[];
}

export interface OutputMessage {
  id: string;
  type: "message";
  role: "assistant";
  status: "in_progress" | "completed" | "incomplete";
  content: OutputText[];
}

export interface Usage {
  input_tokens: number;
  input_tokens_details: { cached_tokens: number };
  output_tokens: number;
  total_tokens: number;
}

/** Where the time went: milliseconds, and tokens per second. */
export interface Timings {
  queued_ms: number;
  cache_n: number;
  prompt_n: number;
  prompt_ms: number;
  prompt_per_second: number;
  predicted_n: number;
  predicted_ms: number;
  predicted_per_second: number;
}

/** A response at one moment of its life. */
export interface ResponseObject {
  id: string;
  status: "in_progress" | "completed" | "incomplete" | "cancelled" | "failed";
  model: string;
  output: OutputMessage[];
  error: ErrorDetails | null;
  incomplete_details: { reason: "max_output_tokens" | "cancelled" } | null;
  usage: Usage | null;
  timings: Timings | null;
  seed: number | null;
  metadata: Record<string, string>;
  [field: string]: unknown;
}

interface Numbered {
  /** Counts the events of a response from 0. */
  sequence_number: number;
  stream_id?: string;
}

export interface ResponseBeginEvent extends Numbered {
  type: "response.created" | "response.in_progress";
  response: ResponseObject;
}

/** The last event of a response. */
export interface ResponseEndEvent extends Numbered {
  type: "response.completed" | "response.incomplete" | "response.failed";
  response: ResponseObject;
}

export interface OutputItemEvent extends Numbered {
  type: "response.output_item.added" | "response.output_item.done";
  item: OutputMessage;
  output_index: number;
}

export interface ContentPartEvent extends Numbered {
  type: "response.content_part.added" | "response.content_part.done";
  item_id: string;
  part: OutputText;
  output_index: number;
  content_index: number;
}

export interface TextDeltaEvent extends Numbered {
  type: "response.output_text.delta";
  item_id: string;
  delta: string;
  output_index: number;
  content_index: number;
  token_ids?: number[];
}

export interface TextDoneEvent extends Numbered {
  type: "response.output_text.done";
  item_id: string;
  text: string;
  output_index: number;
  content_index: number;
}

/** The response waits behind `position` others. */
export interface QueuedEvent {
  type: "tabagent.queued";
  response_id: string;
  position: number;
}

/** `done` of `total` prompt tokens are read. */
export interface PromptProgressEvent {
  type: "tabagent.prompt_progress";
  response_id: string;
  done: number;
  total: number;
}

/** A model moved in its life; `progress` runs from 0 to 1 while it loads. */
export interface ModelStateEvent {
  type: "tabagent.model.state";
  model: string;
  state: ModelState;
  progress: number;
  error: ErrorDetails | null;
}

/** `done` of a model's `total` bytes are there; `file` is the one that arrives. */
export interface PullProgressEvent {
  type: "tabagent.model.pull.progress";
  /** What was asked for. */
  model: string;
  file: string;
  done: number;
  total: number;
}

/** An event of a response; newer servers may send types that are not listed here. */
export type ResponseEvent =
  | ResponseBeginEvent
  | ResponseEndEvent
  | OutputItemEvent
  | ContentPartEvent
  | TextDeltaEvent
  | TextDoneEvent
  | QueuedEvent
  | PromptProgressEvent
  | ModelStateEvent;

export type ModelState = "unloaded" | "loading" | "ready" | "failed";

/** A model that the server knows. */
export interface Model {
  id: string;
  backend: string;
  state: ModelState;
  progress: number;
  error: ErrorDetails | null;
  /** Tokens of prompt and answer together. */
  context_length: number | null;
  size_bytes: number | null;
}

const TERMINAL = new Set(["response.completed", "response.incomplete", "response.failed"]);

/** Whether an event is the last one of its response. */
export function isTerminal(event: ResponseEvent): event is ResponseEndEvent {
  return TERMINAL.has(event.type);
}

/** Returns an id that nobody else has; works in insecure contexts too. */
export function newId(prefix: string): string {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return prefix + Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}
