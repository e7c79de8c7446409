import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { extensionStore, ResumeJournal, type ResumePoint } from "../src/resume.js";

const point = (starting_after: number): ResumePoint => ({
  response_id: "resp_1",
  stream_id: "stream_1",
  starting_after,
  text: "x".repeat(starting_after),
  metadata: {},
});

/** A store whose writes end when the test says so. */
class SlowStore {
  readonly saved: ResumePoint[][] = [];
  readonly #pending: (() => void)[] = [];

  load(): Promise<ResumePoint[]> {
    return Promise.resolve(this.saved.at(-1) ?? []);
  }

  save(points: ResumePoint[]): Promise<void> {
    this.saved.push(points);
    return new Promise((resolve) => this.#pending.push(resolve));
  }

  async finish(): Promise<void> {
    this.#pending.shift()?.();
    await vi.advanceTimersByTimeAsync(0);
  }
}

describe("the journal", () => {
  beforeEach(() => void vi.useFakeTimers());
  afterEach(() => void vi.useRealTimers());

  it("writes urgent changes at once, others after its interval", async () => {
    const store = new SlowStore();
    let points = [point(0)];
    const journal = new ResumeJournal(store, () => points, 250);
    journal.changed(true);
    await store.finish();
    expect(store.saved).toEqual([[point(0)]]);
    for (let number = 1; number <= 9; number += 1) {
      points = [point(number)];
      journal.changed(false);
    }
    expect(store.saved).toHaveLength(1);
    await vi.advanceTimersByTimeAsync(250);
    expect(store.saved).toEqual([[point(0)], [point(9)]]);
  });

  it("never writes twice at a time, and the last word is written", async () => {
    const store = new SlowStore();
    let points = [point(0)];
    const journal = new ResumeJournal(store, () => points);
    journal.changed(true);
    points = [point(1)];
    journal.changed(true);
    points = [];
    journal.changed(true);
    expect(store.saved).toEqual([[point(0)]]);
    await store.finish();
    await store.finish();
    expect(store.saved).toEqual([[point(0)], []]);
  });

  it("goes on when a write fails", async () => {
    const saved: ResumePoint[][] = [];
    const store = {
      load: () => Promise.resolve([]),
      save: (points: ResumePoint[]) => {
        saved.push(points);
        return saved.length === 1 ? Promise.reject(new Error("quota")) : Promise.resolve();
      },
    };
    const journal = new ResumeJournal(store, () => [point(saved.length)]);
    journal.changed(true);
    await vi.advanceTimersByTimeAsync(0);
    journal.changed(true);
    await vi.advanceTimersByTimeAsync(0);
    expect(saved).toHaveLength(2);
  });
});

it("an extension's store gives back what was put in", async () => {
  const items: Record<string, unknown> = {};
  const store = extensionStore({
    get: (key) => Promise.resolve(key in items ? { [key]: items[key] } : {}),
    set: (more) => Promise.resolve(void Object.assign(items, more)),
  });
  expect(await store.load()).toEqual([]);
  await store.save([point(3)]);
  expect(await store.load()).toEqual([point(3)]);
});
