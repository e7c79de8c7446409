/** Paces drawing: once per frame at most, and never for more than half of the time. */

const FRAME = 16; // milliseconds

export class Painter {
  readonly #draw: () => void;
  #isDue = false;
  #isStale = false;

  constructor(draw: () => void) {
    this.#draw = draw;
  }

  /** Asks for a drawing, soon. */
  invalidate(): void {
    this.#isStale = true;
    if (this.#isDue) return;
    this.#isDue = true;
    requestAnimationFrame(() => this.#paint());
  }

  #paint(): void {
    this.#isStale = false;
    const start = performance.now();
    this.#draw();
    // Elements, layout and pixels follow; what all that took is known in the next task.
    setTimeout(() => {
      const cost = performance.now() - start;
      if (cost > FRAME) setTimeout(() => this.#rested(), cost);
      else this.#rested();
    });
  }

  #rested(): void {
    this.#isDue = false;
    if (this.#isStale) this.invalidate();
  }
}
