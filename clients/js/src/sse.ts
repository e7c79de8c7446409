/** Reads server-sent events; does no I/O. */

/** Turns the text of an event stream, in pieces of any size, into the data of its events. */
export class EventStreamParser {
  #rest = "";

  /** Takes more text; returns the data of the events that it completes. */
  receive(text: string): string[] {
    const blocks = (this.#rest + text).split("\n\n");
    this.#rest = blocks.pop() ?? "";
    return blocks.map(dataOf).filter((data) => data !== "");
  }
}

function dataOf(block: string): string {
  const lines = block.split("\n").filter((line) => line.startsWith("data:"));
  return lines.map((line) => line.slice("data:".length).trimStart()).join("\n");
}
