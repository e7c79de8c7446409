/** Cuts messages that a transport cannot carry whole into `tabagent.chunk`s, and joins them. */

import { TabagentError } from "./errors.js";
import type { Message } from "./wire.js";

interface Chunk extends Message {
  type: "tabagent.chunk";
  id: string;
  index: number;
  last: boolean;
  data: string;
}

const ENVELOPE = 256; // bytes that a chunk has beside its data, and more
const WORST_GROWTH = 3; // bytes of UTF-8 per UTF-16 unit of JSON text that is encoded again

/**
 * Returns the chunks of a JSON text, each of at most `limit` bytes of UTF-8 (1 KiB or more).
 * `id` is unique among the sender's incomplete messages.
 */
export function splitText(text: string, limit: number, id: string): Chunk[] {
  const step = Math.floor((limit - ENVELOPE) / WORST_GROWTH);
  const chunks: Chunk[] = [];
  for (let start = 0; start < text.length; ) {
    let end = Math.min(start + step, text.length);
    if (end < text.length && isHighSurrogate(text.charCodeAt(end - 1))) end -= 1;
    const data = text.slice(start, end);
    chunks.push({
      type: "tabagent.chunk",
      id,
      index: chunks.length,
      last: end === text.length,
      data,
    });
    start = end;
  }
  return chunks;
}

/** Whether a JSON text certainly has no more than `limit` bytes, judged without encoding it. */
export function fits(text: string, limit: number): boolean {
  return text.length * WORST_GROWTH <= limit;
}

/** Joins the chunks of one peer; those of different messages may be interleaved. */
export class ChunkJoiner {
  readonly #open = new Map<string, string[]>();

  /**
   * Returns the message that this one is or completes, or null while pieces are missing.
   * Throws `invalid_message` when a piece is out of turn.
   */
  receive(message: Message): Message | null {
    if (message.type !== "tabagent.chunk") return message;
    const { id, index, last, data } = message as Chunk;
    const pieces = this.#open.get(id) ?? [];
    if (index !== pieces.length || typeof data !== "string") {
      this.#open.delete(id);
      throw new TabagentError({
        code: "invalid_message",
        message: `piece ${index} of message ${id} is out of turn`,
      });
    }
    pieces.push(data);
    this.#open.set(id, pieces);
    if (!last) return null;
    this.#open.delete(id);
    return JSON.parse(pieces.join("")) as Message;
  }
}

function isHighSurrogate(unit: number): boolean {
  return (unit & 0xfc00) === 0xd800;
}
