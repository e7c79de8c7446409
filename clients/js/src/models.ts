/** The server's models. */

import type { Message, Model, ModelStateEvent, PullProgressEvent } from "./wire.js";

/** What hears how a command gets on, and what ends it early. */
export interface CommandOptions {
  modelState?: (event: ModelStateEvent) => void;
  progress?: (message: Message) => void;
  signal?: AbortSignal;
}

type Command = (message: Message, options?: CommandOptions) => Promise<Message>;

/** What `pull` takes beside the model. */
export interface PullOptions {
  /** Hears how many bytes are there. */
  progress?: (event: PullProgressEvent) => void;
  /** Ends the download; what has come is kept for the next one. */
  signal?: AbortSignal;
}

/** Lists, loads, unloads, downloads and deletes models. */
export class Models {
  readonly #command: Command;

  constructor(command: Command) {
    this.#command = command;
  }

  /** Resolves to all models that the server knows. */
  async list(): Promise<Model[]> {
    const answer = await this.#command({ type: "tabagent.model.list" });
    return answer.data as Model[];
  }

  /**
   * Resolves once the model is ready; `progress` hears how it gets there, from 0 to 1. Needs the
   * scope `manage`, which native messaging and tokens have and approved origins have not.
   */
  async load(id: string, progress?: (event: ModelStateEvent) => void): Promise<Model> {
    const modelState = (event: ModelStateEvent) => {
      if (event.model === id) progress?.(event);
    };
    const answer = await this.#command({ type: "tabagent.model.load", model: id }, { modelState });
    return answer.model as Model;
  }

  /** Frees the memory of a model; needs the scope `manage`. */
  async unload(id: string): Promise<Model> {
    const answer = await this.#command({ type: "tabagent.model.unload", model: id });
    return answer.model as Model;
  }

  /**
   * Downloads a model from the Hugging Face Hub: `hf:owner/repo`, and after a colon a file or a
   * quantisation. Resolves once the server knows it, to be loaded; needs the scope `manage`. A
   * lost connection asks again, which goes on from what has come.
   */
  async pull(model: string, { progress, signal }: PullOptions = {}): Promise<Model> {
    const tell = (message: Message) => progress?.(message as unknown as PullProgressEvent);
    const message = { type: "tabagent.model.pull", model };
    const answer = await this.#command(message, { progress: tell, ...(signal && { signal }) });
    return answer.model as Model;
  }

  /** Unloads a model of the server's models folder and deletes its files; needs `manage`. */
  async delete(id: string): Promise<void> {
    await this.#command({ type: "tabagent.model.delete", model: id });
  }
}
