/** What the user has set: kept in this browser, put into each request. */

import { computed, effect, signal } from "@preact/signals";
import type { ResponseRequest, TransportKind } from "@tabagent/client";

/** A number that goes into the request, and how it is shown. */
export interface Parameter {
  field:
    | "temperature"
    | "top_p"
    | "top_k"
    | "min_p"
    | "repeat_penalty"
    | "max_output_tokens"
    | "seed";
  label: string;
  hint: string;
  min: number;
  max: number;
  step: number;
  /** What the slider shows while the model's own default holds; null: there is no slider. */
  usual: number | null;
  /** What the empty field says. */
  empty: string;
}

export const PARAMETERS: readonly Parameter[] = [
  {
    field: "temperature",
    label: "Temperature",
    hint: "0 always takes the likeliest token",
    min: 0,
    max: 2,
    step: 0.05,
    usual: 0.8,
    empty: "default",
  },
  {
    field: "top_p",
    label: "Top p",
    hint: "The likeliest tokens up to this share",
    min: 0,
    max: 1,
    step: 0.01,
    usual: 0.95,
    empty: "default",
  },
  {
    field: "top_k",
    label: "Top k",
    hint: "So many of the likeliest tokens; 0 is all",
    min: 0,
    max: 200,
    step: 1,
    usual: 40,
    empty: "default",
  },
  {
    field: "min_p",
    label: "Min p",
    hint: "Leaves out what is less likely than this share of the likeliest",
    min: 0,
    max: 1,
    step: 0.01,
    usual: 0.05,
    empty: "default",
  },
  {
    field: "repeat_penalty",
    label: "Repeat penalty",
    hint: "1 is none",
    min: 0.5,
    max: 2,
    step: 0.01,
    usual: 1,
    empty: "default",
  },
  {
    field: "max_output_tokens",
    label: "Max tokens",
    hint: "The answer ends there",
    min: 1,
    max: 1_000_000,
    step: 1,
    usual: null,
    empty: "no limit",
  },
  {
    field: "seed",
    label: "Seed",
    hint: "The same seed gives the same answer",
    min: 0,
    max: Number.MAX_SAFE_INTEGER,
    step: 1,
    usual: null,
    empty: "random",
  },
];

export type Theme = "auto" | "light" | "dark";

export interface Settings {
  values: Partial<Record<Parameter["field"], number>>;
  system: string;
  schema: string;
  usesSchema: boolean;
  theme: Theme;
  /** The transport that the user has chosen; null: what the client finds. */
  via: TransportKind | null;
  isPanelOpen: boolean;
}

const KEPT = "tabagent.playground";

export const EXAMPLE_SCHEMA = `{
  "type": "object",
  "properties": {
    "answer": { "type": "string" },
    "confidence": { "type": "number" }
  },
  "required": ["answer", "confidence"],
  "additionalProperties": false
}`;

const INITIAL: Settings = {
  values: {},
  system: "",
  schema: EXAMPLE_SCHEMA,
  usesSchema: false,
  theme: "auto",
  via: null,
  isPanelOpen: false,
};

export const settings = signal<Settings>(load());

effect(() => {
  document.documentElement.dataset.theme = settings.value.theme;
  try {
    localStorage.setItem(KEPT, JSON.stringify(settings.value));
  } catch {
    // a browser that keeps nothing: they hold until the page is closed
  }
});

const systemScheme = matchMedia("(prefers-color-scheme: dark)");
const isSystemDark = signal(systemScheme.matches);
systemScheme.addEventListener("change", ({ matches }) => {
  isSystemDark.value = matches;
});

/** Whether the page is dark now: as it is set, else as the system is. */
export const isDark = computed(() => {
  const { theme } = settings.value;
  return theme === "auto" ? isSystemDark.value : theme === "dark";
});

export function change(changes: Partial<Settings>): void {
  settings.value = { ...settings.peek(), ...changes };
}

/** Sets a parameter; null gives it back to the model. */
export function setParameter(field: Parameter["field"], value: number | null): void {
  const { [field]: _, ...others } = settings.peek().values;
  change({ values: value === null ? others : { ...others, [field]: value } });
}

/** Returns what is wrong with the schema that is in use; null when nothing is. */
export function schemaProblem({ schema, usesSchema }: Settings): string | null {
  if (!usesSchema) return null;
  try {
    const value: unknown = JSON.parse(schema);
    const isObject = typeof value === "object" && value !== null && !Array.isArray(value);
    return isObject ? null : "A schema is a JSON object.";
  } catch (error) {
    return (error as SyntaxError).message;
  }
}

/** Returns the fields of a request that the settings ask for. */
export function requestFields({
  values,
  system,
  schema,
  usesSchema,
}: Settings): Partial<ResponseRequest> {
  const format = { type: "json_schema", name: "answer", strict: true };
  return {
    ...values,
    ...(system.trim() && { instructions: system }),
    ...(usesSchema && { text: { format: { ...format, schema: JSON.parse(schema) } } }),
  };
}

function load(): Settings {
  try {
    return { ...INITIAL, ...JSON.parse(localStorage.getItem(KEPT) ?? "{}") };
  } catch {
    return INITIAL;
  }
}
