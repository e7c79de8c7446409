/** The prompts of the browser's Prompt API, as input for the server. */

import { TabagentError } from "./errors.js";
import type { InputItem } from "./wire.js";

export type LanguageModelRole = "system" | "user" | "assistant";

export interface LanguageModelContent {
  type: "text";
  value: string;
}

export interface LanguageModelMessage {
  role: LanguageModelRole;
  content: string | LanguageModelContent[];
  prefix?: boolean;
}

export type LanguageModelPrompt = string | LanguageModelMessage[];

/** Returns what the server calls a prompt; throws as the browser does for what it cannot take. */
export function inputOf(prompt: LanguageModelPrompt, isInitial = false): InputItem[] {
  if (typeof prompt === "string") return [{ role: "user", content: prompt }];
  if (!Array.isArray(prompt)) throw new TypeError("a prompt is a string or a list of messages");
  return prompt.map((message, index) => {
    const { role, content, prefix } = message;
    if (role !== "system" && role !== "user" && role !== "assistant") {
      throw new TypeError(`${String(role)} is no role`);
    }
    if (role === "system" && !(isInitial && index === 0)) {
      throw new DOMException(
        "only the first initial prompt may be a system one",
        "NotSupportedError",
      );
    }
    if (prefix) throw new DOMException("prefixes are not supported", "NotSupportedError");
    return { role, content: textOf(content) };
  });
}

function textOf(content: string | LanguageModelContent[]): string {
  if (typeof content === "string") return content;
  if (!Array.isArray(content)) throw new TypeError("content is a string or a list of parts");
  return content
    .map(({ type, value }) => {
      if (type !== "text") {
        throw new DOMException(
          `input of type ${String(type)} is not supported`,
          "NotSupportedError",
        );
      }
      return String(value);
    })
    .join("");
}

const NAMES: Record<string, string> = {
  context_length_exceeded: "QuotaExceededError",
  not_supported: "NotSupportedError",
  origin_not_allowed: "NotAllowedError",
  scope_required: "NotAllowedError",
  token_required: "NotAllowedError",
};

/** Returns an error as the browser's Prompt API throws it; its `cause` has the server's code. */
export function domError(error: unknown): unknown {
  if (!(error instanceof TabagentError)) return error;
  const exception = new DOMException(error.message, NAMES[error.code] ?? "OperationError");
  return Object.assign(exception, { cause: error });
}
