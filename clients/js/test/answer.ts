/** What the models of the tests say. */

/** The answer of a model that counts so far, a token each. */
export function counted(pieces: number): string {
  return Array.from({ length: pieces }, (_, number) => ` ${number}`).join("");
}

/** How far the model `chain` counts, where nothing else is said. */
export const PIECES = 300;

/** The answer of the model `chain`, where nothing else is said. */
export const ANSWER = counted(PIECES);
