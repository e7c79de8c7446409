import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { ChunkJoiner, fits, splitText } from "../src/chunks.js";
import { TabagentError } from "../src/errors.js";
import type { Message } from "../src/wire.js";

const LIMIT = 1024;
const bytes = (value: unknown) => new TextEncoder().encode(JSON.stringify(value)).length;
const anyText = fc.string({ unit: "binary", maxLength: 3000 });
const anyMessage = anyText.map((text): Message => ({ type: "response.create", input: text }));

function join(joiner: ChunkJoiner, messages: Iterable<Message>): Message[] {
  return [...messages].map((message) => joiner.receive(message)).filter((whole) => whole !== null);
}

describe("chunks", () => {
  it("join to the message that was split, whatever its text", () => {
    fc.assert(
      fc.property(anyMessage, (message) => {
        const chunks = splitText(JSON.stringify(message), LIMIT, "a");
        expect(join(new ChunkJoiner(), chunks)).toEqual([message]);
      }),
    );
  });

  it("are never larger than the limit", () => {
    fc.assert(
      fc.property(anyMessage, (message) => {
        for (const chunk of splitText(JSON.stringify(message), LIMIT, "a")) {
          expect(bytes(chunk)).toBeLessThanOrEqual(LIMIT);
        }
      }),
    );
  });

  it("may be interleaved with those of another message", () => {
    fc.assert(
      fc.property(anyMessage, anyMessage, (first, second) => {
        const streams = [
          splitText(JSON.stringify(first), LIMIT, "a"),
          splitText(JSON.stringify(second), LIMIT, "b"),
        ];
        const mixed: Message[] = [];
        while (streams.some((stream) => stream.length > 0)) {
          for (const stream of streams) mixed.push(...stream.splice(0, 1));
        }
        const joined = join(new ChunkJoiner(), mixed);
        expect(joined).toHaveLength(2);
        expect(joined).toEqual(expect.arrayContaining([first, second]));
      }),
    );
  });

  it("let other messages through", () => {
    const message = { type: "tabagent.pong" };
    expect(new ChunkJoiner().receive(message)).toBe(message);
  });

  it("are refused when a piece is missing", () => {
    const text = JSON.stringify({ type: "x", input: "y".repeat(2000) });
    const [first, , third] = splitText(text, LIMIT, "a");
    const joiner = new ChunkJoiner();
    joiner.receive(first as Message);
    expect(() => joiner.receive(third as Message)).toThrow(TabagentError);
  });

  it("are not needed for what certainly fits", () => {
    fc.assert(
      fc.property(anyText, (text) => {
        if (fits(JSON.stringify(text), LIMIT)) expect(bytes(text)).toBeLessThanOrEqual(LIMIT);
      }),
    );
  });
});
