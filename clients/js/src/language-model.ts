/** The browser's Prompt API on a local model: for pages written for the built-in `LanguageModel`. */

import type { Client } from "./client.js";
import { type ConnectOptions, connect } from "./connect.js";
import {
  DEFAULT_TEMPERATURE,
  DEFAULT_TOP_K,
  type LanguageModelCoreOptions,
  LanguageModelSession,
} from "./language-model-session.js";
import { domError, inputOf, type LanguageModelMessage } from "./prompts.js";
import type { Model, ModelState } from "./wire.js";

export interface LanguageModelOptions {
  /** The model to use; by default the server's first one. */
  model?: string;
}

export interface LanguageModelCreateOptions extends LanguageModelCoreOptions {
  signal?: AbortSignal;
  /** Is handed an `EventTarget` that hears `downloadprogress` while the model loads. */
  monitor?: (monitor: EventTarget) => void;
  initialPrompts?: LanguageModelMessage[];
}

export type LanguageModelAvailability =
  | "unavailable"
  | "downloadable"
  | "downloading"
  | "available";

const AVAILABILITY: Record<ModelState, LanguageModelAvailability> = {
  ready: "available",
  loading: "downloading",
  unloaded: "downloadable",
  failed: "unavailable",
};

/** What `languageModel` returns: stands in for the global `LanguageModel`. */
export interface LanguageModelFactory {
  availability(options?: LanguageModelCoreOptions): Promise<LanguageModelAvailability>;
  create(options?: LanguageModelCreateOptions): Promise<LanguageModelSession>;
  params(): Promise<{
    defaultTopK: number;
    maxTopK: number;
    defaultTemperature: number;
    maxTemperature: number;
  }>;
}

/**
 * Returns an object shaped like the browser's `LanguageModel` that runs on a TabAgent server. It
 * connects when it is first used; a client that is handed in serves several such objects.
 *
 *     globalThis.LanguageModel ??= languageModel();
 */
export function languageModel(
  source: Client | ConnectOptions = {},
  { model: id }: LanguageModelOptions = {},
): LanguageModelFactory {
  let client: Promise<Client> | null = null;
  const connected = () => {
    client ??= "respond" in source ? Promise.resolve(source) : connect(source);
    client.catch(() => {
      client = null; // the next use tries again
    });
    return client;
  };
  const chosen = async () => {
    const models = await (await connected()).models.list();
    const usable = models.find(({ state }) => state === "ready" || state === "loading");
    return id === undefined ? (usable ?? models[0]) : models.find((model) => model.id === id);
  };
  return {
    availability: async (options = {}) => {
      if (refusalOf(options)) return "unavailable";
      const model = await chosen().catch(() => undefined);
      return model ? AVAILABILITY[model.state] : "unavailable";
    },
    create: async (options = {}) => {
      options.signal?.throwIfAborted();
      const refusal = refusalOf(options);
      if (refusal) throw new DOMException(refusal, "NotSupportedError");
      const initial = inputOf(options.initialPrompts ?? [], true);
      try {
        const model = await chosen();
        if (!model) throw new DOMException("the server has no model", "NotSupportedError");
        const ready = await load(await connected(), model, options.monitor);
        const session = new LanguageModelSession(await connected(), ready, initial, options);
        await session.start(options.signal);
        return session;
      } catch (error) {
        throw domError(error);
      }
    },
    params: async () => ({
      defaultTopK: DEFAULT_TOP_K,
      maxTopK: 1000,
      defaultTemperature: DEFAULT_TEMPERATURE,
      maxTemperature: 2,
    }),
  };
}

function refusalOf(options: LanguageModelCoreOptions): string | null {
  const expected = [...(options.expectedInputs ?? []), ...(options.expectedOutputs ?? [])];
  if (expected.some(({ type }) => type !== "text")) return "only text is supported";
  return options.tools?.length ? "tools are not supported" : null;
}

async function load(
  client: Client,
  model: Model,
  monitor?: (monitor: EventTarget) => void,
): Promise<Model> {
  const target = new EventTarget();
  monitor?.(target);
  const tell = (loaded: number) => {
    target.dispatchEvent(Object.assign(new Event("downloadprogress"), { loaded, total: 1 }));
  };
  tell(0);
  const isLoaded = model.state === "ready";
  const ready = isLoaded ? model : await client.models.load(model.id, (e) => tell(e.progress));
  tell(1);
  return ready;
}
