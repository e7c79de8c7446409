/** The conversation: turns, the answer that is being written, and what it is measured at. */

import { type Signal, signal } from "@preact/signals";
import {
  type ResponseEvent,
  type ResponseObject,
  type ResponseStream,
  TabagentError,
} from "@tabagent/client";
import type { Token } from "marked";
import { GrowingMarkdown } from "./markdown/blocks.js";
import { type Measurement, Meter, NOTHING_MEASURED } from "./meter.js";
import { Painter } from "./painter.js";
import { answeringModel, client, messageOf, refreshModels } from "./server.js";
import { requestFields, settings } from "./settings.js";

/** What an answer waits for; `part` runs from 0 to 1, null where nobody knows. */
export interface Progress {
  text: string;
  part: number | null;
}

export interface Failure {
  message: string;
  code: string;
  /** The field that is to blame. */
  param: string | null;
}

export interface Question {
  role: "user";
  text: string;
}

/** An answer, from when it is asked for. */
export class Answer {
  readonly role = "assistant";
  readonly isJson: boolean;
  readonly blocks: Signal<Token[]> = signal([]);
  readonly shown = signal("");
  readonly progress = signal<Progress | null>({ text: "Waiting…", part: null });
  readonly failure = signal<Failure | null>(null);
  readonly note = signal("");
  readonly isBusy = signal(true);
  text = "";
  readonly #markdown = new GrowingMarkdown();

  constructor(isJson: boolean) {
    this.isJson = isJson;
  }

  /** Shows what has come since it was last called. */
  show(isWhole = false): void {
    if (this.shown.peek() === this.text && !isWhole) return;
    this.shown.value = this.text;
    if (this.isJson) return;
    this.blocks.value = isWhole
      ? this.#markdown.finish(this.text)
      : this.#markdown.update(this.text);
  }
}

export type Turn = Question | Answer;

export const turns = signal<Turn[]>([]);
export const running = signal<Answer | null>(null);
export const measurement = signal<Measurement>(NOTHING_MEASURED);
/** What is said to those who do not see the page. */
export const announcement = signal("");

let stream: ResponseStream | null = null;

export async function ask(text: string): Promise<void> {
  if (running.peek() || !client.peek()) return;
  turns.value = [...turns.peek(), { role: "user", text }];
  await answerLast();
}

/** Asks the last question again. */
export async function askAgain(): Promise<void> {
  if (running.peek() || !client.peek()) return;
  turns.value = turns
    .peek()
    .slice(0, turns.peek().findLastIndex(({ role }) => role === "user") + 1);
  await answerLast();
}

/** Ends the answer; what has come stays. */
export function stop(): void {
  stream?.cancel();
}

export function startAnew(): void {
  stop();
  turns.value = [];
  running.value = null;
  measurement.value = NOTHING_MEASURED;
}

async function answerLast(): Promise<void> {
  const asked = client.peek();
  if (!asked) return;
  const input = conversation();
  const answer = new Answer(settings.peek().usesSchema);
  turns.value = [...turns.peek(), answer];
  running.value = answer;
  announcement.value = "";
  const model = answeringModel();
  const meter = new Meter();
  measurement.value = NOTHING_MEASURED;
  const own = asked.respond({
    input,
    return_token_ids: true,
    truncation: "auto", // the oldest turns go when the context is full
    ...(model && { model: model.id }),
    ...requestFields(settings.peek()),
  });
  stream = own;
  try {
    await follow(own, answer, meter);
    answer.note.value = noteOf(await own.completed());
  } catch (error) {
    answer.failure.value = failureOf(error);
  }
  end(answer, meter);
}

/** Shows an answer as it comes; tokens may come faster than a screen can change. */
async function follow(own: ResponseStream, answer: Answer, meter: Meter): Promise<void> {
  const painter = new Painter(() => {
    if (running.peek() !== answer) return;
    answer.show();
    measurement.value = meter.read();
  });
  for await (const event of own) {
    if (event.type === "response.output_text.delta") {
      if (!event.delta) continue;
      meter.arrived(event.token_ids?.length ?? 1);
      answer.text += event.delta;
      answer.progress.value = null;
      painter.invalidate();
    } else {
      answer.progress.value = progressOf(event) ?? answer.progress.peek();
    }
  }
}

function end(answer: Answer, meter: Meter): void {
  answer.progress.value = null;
  answer.isBusy.value = false;
  answer.show(true);
  if (running.peek() !== answer) return; // a new chat has begun
  running.value = null;
  stream = null;
  measurement.value = meter.read();
  announcement.value = answer.failure.peek()?.message ?? answer.text;
  void refreshModels();
}

/** Returns the turns that the model is to read: questions without an answer are left out. */
function conversation(): { role: "user" | "assistant"; content: string }[] {
  const known = turns.peek();
  return known
    .filter((turn, index) => {
      if (turn.role === "assistant") return turn.text !== "";
      const next = known[index + 1];
      return !next || next.role === "user" || next.text !== "";
    })
    .map(({ role, text }) => ({ role, content: text }));
}

function progressOf(event: ResponseEvent): Progress | null {
  switch (event.type) {
    case "tabagent.queued":
      return { text: `Waiting behind ${event.position}…`, part: null };
    case "tabagent.prompt_progress": {
      const [done, total] = [event.done, event.total].map((count) => count.toLocaleString("en"));
      return { text: `Reading ${done} of ${total} tokens`, part: event.done / event.total };
    }
    case "tabagent.model.state":
      return event.state === "loading"
        ? { text: `Loading ${event.model}`, part: event.progress }
        : null;
    default:
      return null;
  }
}

function noteOf({ model, usage, timings, seed, status }: ResponseObject): string {
  const words = [model, `${usage?.input_tokens ?? 0} tokens read`];
  if (timings && timings.cache_n > 0) words.push(`${timings.cache_n} from cache`);
  words.push(`${usage?.output_tokens ?? 0} written`);
  if (timings?.predicted_per_second) words.push(`${speed(timings.predicted_per_second)} tokens/s`);
  if (seed !== null) words.push(`seed ${seed}`);
  if (status === "cancelled") words.push("stopped");
  if (status === "incomplete") words.push("cut off at its limit");
  return words.join(" · ");
}

/** Returns a rate with as many digits as mean anything. */
export function speed(rate: number): string {
  return rate < 100 ? rate.toFixed(1) : Math.round(rate).toLocaleString("en");
}

function failureOf(error: unknown): Failure {
  if (error instanceof TabagentError) {
    return { message: error.message, code: error.code, param: error.param };
  }
  if (error instanceof DOMException) {
    return { message: "The answer was stopped before it began.", code: "cancelled", param: null };
  }
  return { message: messageOf(error), code: "", param: null };
}
