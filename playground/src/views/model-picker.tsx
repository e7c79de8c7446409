/** Chooses the model that answers; loads, unloads and downloads. */

import { useSignal } from "@preact/signals";
import type { Model } from "@tabagent/client";
import type { VNode } from "preact";
import { useEffect, useRef } from "preact/hooks";
import { answeringModel, chooseModel, modelProblem, models, unloadModel } from "../server.js";
import { size } from "../size.js";
import { DownloadForm } from "./download-form.js";
import { Icon } from "./icons.js";

export function ModelPicker(): VNode {
  const isOpen = useSignal(false);
  const root = useRef<HTMLDivElement>(null);
  const button = useRef<HTMLButtonElement>(null);
  const current = answeringModel();

  useEffect(() => {
    const closeOutside = ({ target }: Event) => {
      if (!root.current?.contains(target as Node)) isOpen.value = false;
    };
    document.addEventListener("pointerdown", closeOutside);
    document.addEventListener("focusin", closeOutside);
    return () => {
      document.removeEventListener("pointerdown", closeOutside);
      document.removeEventListener("focusin", closeOutside);
    };
  }, [isOpen]);

  const close = (event: KeyboardEvent) => {
    if (event.key !== "Escape" || !isOpen.value) return;
    event.stopPropagation(); // it stops no answer
    isOpen.value = false;
    button.current?.focus();
  };

  const choose = (model: Model) => {
    void chooseModel(model);
    if (model.state !== "ready") return; // its progress is to be seen
    isOpen.value = false;
    button.current?.focus();
  };

  return (
    // biome-ignore lint/a11y/noStaticElementInteractions: it only hears what its buttons do not take
    <div class="picker" ref={root} onKeyDown={close}>
      <button
        type="button"
        id="model"
        ref={button}
        aria-expanded={isOpen.value}
        aria-controls="models"
        aria-label={`Model: ${current?.id ?? "none"}`}
        onClick={() => {
          isOpen.value = !isOpen.value;
        }}
      >
        <span class="dot" data-state={current?.state ?? "unloaded"} />
        <span class="name">{current?.id ?? (models.value ? "No model" : "Connecting…")}</span>
        {current?.state === "loading" && <em>{percent(current.progress)}</em>}
        <Icon name="down" />
      </button>
      {isOpen.value && (
        <div class="popup" id="models">
          <h2>Models</h2>
          <ul>
            {(models.value ?? []).map((model) => (
              <Row key={model.id} model={model} isCurrent={model === current} choose={choose} />
            ))}
          </ul>
          {models.value?.length === 0 && <p>This server knows no model.</p>}
          {modelProblem.value && (
            <p class="bad" role="alert">
              {modelProblem.value}
            </p>
          )}
          <DownloadForm />
        </div>
      )}
      {current?.state === "loading" && (
        <progress class="load" value={current.progress} aria-label={`Loading ${current.id}`} />
      )}
    </div>
  );
}

interface RowProps {
  model: Model;
  isCurrent: boolean;
  choose: (model: Model) => void;
}

function Row({ model, isCurrent, choose }: RowProps): VNode {
  const { id, state, progress, error } = model;
  return (
    <li data-model={id} data-state={state}>
      <button type="button" aria-current={isCurrent} onClick={() => choose(model)}>
        <span class="dot" data-state={state} />
        <span class="name">{id}</span>
        <small>{describe(model)}</small>
        {isCurrent && <Icon name="check" />}
      </button>
      {state === "ready" && (
        <button
          type="button"
          class="quiet"
          aria-label={`Unload ${id}`}
          onClick={() => void unloadModel(model)}
        >
          Unload
        </button>
      )}
      {state === "loading" && <progress value={progress} aria-label={`Loading ${id}`} />}
      {error && <p class="bad">{error.message}</p>}
    </li>
  );
}

function describe({ state, progress, context_length, size_bytes }: Model): string {
  const words: string[] = [state === "loading" ? `loading, ${percent(progress)}` : state];
  if (size_bytes) words.push(size(size_bytes));
  if (context_length) words.push(`${context_length.toLocaleString("en")} tokens`);
  return words.join(" · ");
}

function percent(part: number): string {
  return `${Math.round(part * 100)} %`;
}
