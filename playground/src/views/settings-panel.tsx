/** How answers are made: sampling, system prompt, schema. */

import type { VNode } from "preact";
import {
  change,
  PARAMETERS,
  type Parameter,
  schemaProblem,
  setParameter,
  settings,
} from "../settings.js";
import { Icon } from "./icons.js";

export function SettingsPanel(): VNode {
  const close = () => {
    change({ isPanelOpen: false });
    document.getElementById("open-panel")?.focus();
  };
  const isChanged = Object.keys(settings.value.values).length > 0;
  return (
    <aside
      class="panel"
      id="panel"
      aria-label="Settings of the answer"
      onKeyDown={(event) => {
        if (event.key !== "Escape") return;
        event.stopPropagation(); // it stops no answer
        close();
      }}
    >
      <header>
        <h2>Answer</h2>
        <button type="button" class="square" aria-label="Close the settings" onClick={close}>
          <Icon name="close" />
        </button>
      </header>
      <section>
        <h3>
          <label for="system">System prompt</label>
        </h3>
        <textarea
          id="system"
          rows={3}
          placeholder="None"
          value={settings.value.system}
          onInput={({ currentTarget }) => change({ system: currentTarget.value })}
        />
      </section>
      <section>
        <h3>
          Sampling
          <button
            type="button"
            class="quiet"
            disabled={!isChanged}
            onClick={() => change({ values: {} })}
          >
            Reset
          </button>
        </h3>
        {PARAMETERS.map((parameter) => (
          <Field key={parameter.field} parameter={parameter} />
        ))}
      </section>
      <SchemaSection />
    </aside>
  );
}

function Field({ parameter }: { parameter: Parameter }): VNode {
  const { field, label, hint, min, max, step, usual, empty } = parameter;
  const value = settings.value.values[field];
  const set = ({ currentTarget: input }: { currentTarget: HTMLInputElement }) => {
    if (input.value === "") setParameter(field, null);
    else if (input.validity.valid || input.validity.stepMismatch) {
      setParameter(field, input.valueAsNumber);
    }
  };
  return (
    <div class="field" data-set={value !== undefined}>
      <label for={field}>{label}</label>
      <input
        id={field}
        type="number"
        inputMode="decimal"
        aria-describedby={`${field}-hint`}
        placeholder={empty}
        value={value ?? ""}
        {...{ min, max, step }}
        onInput={set}
      />
      {usual !== null && (
        <input
          type="range"
          aria-label={`${label}, slider`}
          value={value ?? usual}
          {...{ min, max, step }}
          onInput={set}
        />
      )}
      <small id={`${field}-hint`}>{hint}</small>
    </div>
  );
}

function SchemaSection(): VNode {
  const { usesSchema, schema } = settings.value;
  const problem = schemaProblem(settings.value);
  return (
    <section>
      <h3>
        <label for="uses-schema">JSON schema</label>
        <input
          id="uses-schema"
          type="checkbox"
          role="switch"
          checked={usesSchema}
          aria-checked={usesSchema}
          onChange={({ currentTarget }) => change({ usesSchema: currentTarget.checked })}
        />
      </h3>
      <small>The answer is JSON of this shape.</small>
      {usesSchema && (
        <textarea
          class="code"
          rows={9}
          spellcheck={false}
          aria-label="JSON schema"
          aria-invalid={problem !== null}
          aria-describedby="schema-problem"
          value={schema}
          onInput={({ currentTarget }) => change({ schema: currentTarget.value })}
        />
      )}
      <p class="bad" id="schema-problem" role="status">
        {problem}
      </p>
    </section>
  );
}
