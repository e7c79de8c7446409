/** The server, as the page knows it: connection, models, who asks for access, what it runs on. */

import { effect, signal } from "@preact/signals";
import {
  type Client,
  connect,
  type Model,
  TabagentError,
  type TransportKind,
} from "@tabagent/client";
import { change, settings } from "./settings.js";
import type { SystemInfo } from "./system-info.js";
import type { Way } from "./ways.js";

export interface Origins {
  pending: { origin: string; code: string }[];
  approved: { origin: string; by: "user" | "setting" | "host" }[];
}

const TOKEN = "tabagent.token";
const PING_INTERVAL = 2_000; // milliseconds, as all below
const LOADING_INTERVAL = 250;
const MODELS_INTERVAL = 5_000;
const ORIGINS_INTERVAL = 3_000;

export const client = signal<Client | null>(null);
/** The transport that is connected; null while none is. */
export const transport = signal<TransportKind | null>(null);
export const problem = signal<string | null>(null);
export const needsToken = signal(false);
export const models = signal<Model[] | null>(null);
export const chosenModel = signal<string | null>(null);
/** What the last attempt to load a model came to, where that was nothing. */
export const modelProblem = signal<string | null>(null);
export const roundTrip = signal<number | null>(null);
export const origins = signal<Origins | null>(null);
export const system = signal<SystemInfo | null>(null);
export const systemProblem = signal<string | null>(null);

let attempt = new AbortController();

/** Connects, by the way that is set or by the best there is. */
export async function reconnect(): Promise<void> {
  attempt.abort();
  attempt = new AbortController();
  const { signal } = attempt;
  client.peek()?.close();
  client.value = null;
  transport.value = null;
  roundTrip.value = null;
  problem.value = null;
  const { via } = settings.peek();
  const token = sessionStorage.getItem(TOKEN) ?? undefined;
  try {
    const made = await connect({
      url: location.origin,
      via: via ?? "auto",
      signal,
      ...(token && { token }),
    });
    made.on("state", () => {
      if (client.peek() === made) transport.value = made.transport;
    });
    client.value = made;
    transport.value = made.transport;
    void measureRoundTrip();
    void refreshModels();
  } catch (error) {
    if (signal.aborted) return; // another attempt has taken over
    if (error instanceof TabagentError && error.code === "token_required") needsToken.value = true;
    else problem.value = messageOf(error);
  }
}

export function go(via: Way): void {
  change({ via });
  void reconnect();
}

export function enterToken(token: string): void {
  sessionStorage.setItem(TOKEN, token);
  needsToken.value = false;
  start();
}

/** Whether the server says that it takes connections of this kind; true until it has said. */
export function isServed(way: Way): boolean {
  if (way === "http" || !system.value) return true;
  return system.value.transports.some(({ name, works }) => name === way && works);
}

/** The model that answers: the chosen one, else the first that is ready. */
export function answeringModel(): Model | null {
  const known = models.value ?? [];
  const usable = known.filter(({ state }) => state === "ready" || state === "loading");
  return known.find(({ id }) => id === chosenModel.value) ?? usable[0] ?? null;
}

export async function refreshModels(): Promise<void> {
  const before = models.peek();
  const known = await client
    .peek()
    ?.models.list()
    .catch(() => null);
  models.value = known ?? before?.slice() ?? null; // which has it asked for again, later
}

/** Takes a model for the answers to come, and loads it where it is not. */
export async function chooseModel(model: Model): Promise<void> {
  const before = chosenModel.peek();
  chosenModel.value = model.id;
  modelProblem.value = null;
  if (model.state === "ready") return;
  const loading = client.peek()?.models.load(model.id, ({ state, progress }) => {
    models.value = (models.peek() ?? []).map((each) =>
      each.id === model.id ? { ...each, state, progress } : each,
    );
  });
  void refreshModels(); // which tells of the progress where no event does
  try {
    await loading;
  } catch (error) {
    modelProblem.value = `${model.id}: ${messageOf(error)}`;
    chosenModel.value = before;
  }
  await refreshModels();
}

export async function unloadModel(model: Model): Promise<void> {
  modelProblem.value = null;
  try {
    await client.peek()?.models.unload(model.id);
    if (chosenModel.peek() === model.id) chosenModel.value = null;
  } catch (error) {
    modelProblem.value = `${model.id}: ${messageOf(error)}`;
  }
  await refreshModels();
}

export async function decide(verb: "approve" | "revoke", origin: string): Promise<void> {
  try {
    origins.value = await request<Origins>(`/v1/origins/${verb}`, { origin });
  } catch (error) {
    problem.value = messageOf(error);
  }
}

export async function refreshSystem(): Promise<void> {
  try {
    system.value = await request<SystemInfo>("/v1/system");
    systemProblem.value = null;
  } catch (error) {
    systemProblem.value = messageOf(error);
  }
}

export function messageOf(error: unknown): string {
  if (error instanceof TabagentError && error.code === "connection_failed") {
    return "The server does not answer: it may have been stopped.";
  }
  return error instanceof Error ? error.message : String(error);
}

async function request<T>(path: string, body?: object): Promise<T> {
  const token = sessionStorage.getItem(TOKEN);
  const response = await fetch(path, {
    method: body ? "POST" : "GET",
    headers: {
      ...(token && { Authorization: `Bearer ${token}` }),
      ...(body && { "Content-Type": "application/json" }),
    },
    ...(body && { body: JSON.stringify(body) }),
  });
  const answer = await response.json().catch(() => null);
  if (response.ok) return answer as T;
  if (answer?.error?.code) throw new TabagentError(answer.error);
  throw new Error(`the server answered ${response.status}`);
}

async function measureRoundTrip(): Promise<void> {
  const asked = client.peek();
  try {
    const time = await asked?.ping();
    if (asked !== client.peek()) return;
    roundTrip.value = time ?? null;
    if (asked) problem.value = null;
  } catch (error) {
    if (asked !== client.peek()) return;
    roundTrip.value = null;
    problem.value = messageOf(error);
  }
}

async function refreshOrigins(): Promise<void> {
  origins.value = await request<Origins>("/v1/origins");
}

/** Runs `act` now and, while the page is seen, again and again, until the server refuses it. */
function repeat(interval: number, act: () => Promise<void>): void {
  const stopIfRefused = (error: unknown) => {
    if (error instanceof TabagentError) clearInterval(timer);
  };
  const timer = setInterval(() => {
    if (!document.hidden) act().catch(stopIfRefused);
  }, interval);
  act().catch(stopIfRefused);
}

/** Connects and keeps itself informed. */
export function start(): void {
  void reconnect();
  void refreshSystem();
  repeat(ORIGINS_INTERVAL, refreshOrigins); // who may not see them is not told
}

setInterval(() => {
  if (!document.hidden && client.peek()) void measureRoundTrip();
}, PING_INTERVAL);

effect(() => {
  const isLoading = models.value?.some(({ state }) => state === "loading");
  const timer = setTimeout(
    () => void refreshModels(),
    isLoading ? LOADING_INTERVAL : MODELS_INTERVAL,
  );
  return () => clearTimeout(timer);
});
