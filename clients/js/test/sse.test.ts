import fc from "fast-check";
import { expect, it } from "vitest";
import { EventStreamParser } from "../src/sse.js";

const anyEvents = fc.array(fc.string({ unit: "binary" }).map((text) => JSON.stringify({ text })));

it("gives the same events however the text is cut", () => {
  fc.assert(
    fc.property(anyEvents, fc.array(fc.nat()), (events, cuts) => {
      const stream = events.map((data) => `: comment\n\nevent: x\ndata: ${data}\n\n`).join("");
      const parser = new EventStreamParser();
      const ends = cuts.map((cut) => cut % (stream.length + 1)).sort((a, b) => a - b);
      const seen: string[] = [];
      let start = 0;
      for (const end of [...ends, stream.length]) {
        seen.push(...parser.receive(stream.slice(start, end)));
        start = end;
      }
      expect(seen).toEqual(events);
    }),
  );
});
