/** Splits a Markdown text that grows into blocks, without reading all of it again and again. */

import { Lexer, type MarkedToken, type Token, type Tokens } from "marked";

/** So many blocks at the end may still turn into something else: a list item may follow a list. */
const OPEN_BLOCKS = 2;

/** Quotes in quotes and lists in lists that are shown; nobody means more, and stacks are finite. */
const MAX_DEPTH = 24;

/** One text, from its first piece to its end. */
export class GrowingMarkdown {
  #settled: Token[] = [];
  #settledLength = 0;
  #isPlain = false;

  /** Returns the blocks of a text that begins with the text before; settled ones stay the same. */
  update(text: string): Token[] {
    const rest = text.slice(this.#settledLength);
    const fresh = this.#read(rest);
    if (!fresh) return [plain(text)];
    const settling = firstOpen(fresh);
    let end = 0;
    for (const token of fresh.slice(0, settling)) {
      // Where the lexer has rewritten its input (line ends, tabs), lengths do not add up.
      if (!rest.startsWith(token.raw, end)) return [...this.#settled, ...fresh];
      end += token.raw.length;
    }
    const before = this.#settled;
    this.#settled = [...before, ...fresh.slice(0, settling)];
    this.#settledLength += end;
    return [...before, ...fresh];
  }

  /** Returns the blocks of the whole text, read at once: what comes last may name earlier links. */
  finish(text: string): Token[] {
    return this.#read(text) ?? [plain(text)];
  }

  /** Returns null, from then on, for what is nested too deep. */
  #read(text: string): Token[] | null {
    if (this.#isPlain) return null;
    try {
      const tokens = Lexer.lex(text);
      this.#isPlain = isDeeper(tokens, MAX_DEPTH);
      return this.#isPlain ? null : tokens;
    } catch (error) {
      if (!(error instanceof RangeError)) throw error; // the lexer's stack
      this.#isPlain = true;
      return null;
    }
  }
}

function plain(text: string): Tokens.Code {
  return { type: "code", raw: text, text };
}

function isDeeper(tokens: readonly Token[], depth: number): boolean {
  if (depth === 0) return tokens.length > 0;
  return tokens.some((token) =>
    inside(token as MarkedToken).some((each) => isDeeper(each, depth - 1)),
  );
}

function inside(token: MarkedToken): Token[][] {
  if (token.type === "list") return [token.items];
  if (token.type === "table")
    return [token.header, ...token.rows].flat().map(({ tokens }) => tokens);
  return "tokens" in token && token.tokens ? [token.tokens] : [];
}

/** Returns the index of the first block that may still change. */
function firstOpen(tokens: Token[]): number {
  let open = 0;
  for (let index = tokens.length - 1; index >= 0; index -= 1) {
    if (tokens[index]?.type !== "space") open += 1;
    if (open === OPEN_BLOCKS) return index;
  }
  return 0;
}
