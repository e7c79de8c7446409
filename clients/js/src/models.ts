/** The server's models. */

import type { Message, Model, ModelStateEvent } from "./wire.js";

type Command = (message: Message, progress?: (event: ModelStateEvent) => void) => Promise<Message>;

/** Lists, loads and unloads models. */
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
    const mine = progress && ((event: ModelStateEvent) => event.model === id && progress(event));
    const answer = await this.#command({ type: "tabagent.model.load", model: id }, mine);
    return answer.model as Model;
  }

  /** Frees the memory of a model; needs the scope `manage`. */
  async unload(id: string): Promise<Model> {
    const answer = await this.#command({ type: "tabagent.model.unload", model: id });
    return answer.model as Model;
  }
}
