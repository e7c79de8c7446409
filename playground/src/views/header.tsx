/** The head of the page: views, model, transport, theme. */

import type { VNode } from "preact";
import { go, isServed, transport } from "../server.js";
import { change, settings, type Theme } from "../settings.js";
import { WAYS, type Way } from "../ways.js";
import { Icon } from "./icons.js";
import { ModelPicker } from "./model-picker.js";

export function Header({ view }: { view: "chat" | "hardware" }): VNode {
  return (
    <header class="head">
      <a class="skip" href="#prompt">
        Skip to the message
      </a>
      <h1>
        <img src="/icon.svg" alt="" width="24" height="24" />
        <span>TabAgent</span>
      </h1>
      <nav aria-label="Views">
        <ViewLink name="chat" label="Chat" view={view} />
        <ViewLink name="hardware" label="Hardware" view={view} />
      </nav>
      <div class="tools">
        <ModelPicker />
        <TransportSwitch />
      </div>
      <div class="buttons">
        {view === "chat" && <PanelButton />}
        <ThemeButton />
      </div>
    </header>
  );
}

function ViewLink({ name, label, view }: { name: string; label: string; view: string }): VNode {
  return (
    <a href={`#${name}`} aria-current={view === name ? "page" : undefined}>
      {label}
    </a>
  );
}

function TransportSwitch(): VNode {
  const shown = transport.value ?? settings.value.via;
  return (
    <fieldset class="segments" id="transport" data-connected={transport.value ?? "none"}>
      <legend class="unseen">Transport</legend>
      {(Object.keys(WAYS) as Way[]).map((way) => (
        <label key={way} title={isServed(way) ? undefined : "This server does not offer it"}>
          <input
            type="radio"
            name="transport"
            value={way}
            checked={shown === way}
            disabled={!isServed(way)}
            onChange={() => go(way)}
          />
          <span>{WAYS[way]}</span>
        </label>
      ))}
    </fieldset>
  );
}

function PanelButton(): VNode {
  const { isPanelOpen } = settings.value;
  return (
    <button
      type="button"
      class="square"
      id="open-panel"
      aria-label="Settings of the answer"
      title="Settings of the answer"
      aria-expanded={isPanelOpen}
      aria-controls="panel"
      onClick={() => change({ isPanelOpen: !isPanelOpen })}
    >
      <Icon name="tune" />
    </button>
  );
}

const THEMES: Record<Theme, { next: Theme; icon: "auto" | "sun" | "moon"; label: string }> = {
  auto: { next: "light", icon: "auto", label: "Colours of the system" },
  light: { next: "dark", icon: "sun", label: "Light" },
  dark: { next: "auto", icon: "moon", label: "Dark" },
};

function ThemeButton(): VNode {
  const { next, icon, label } = THEMES[settings.value.theme];
  const words = `Theme: ${label}. Change to: ${THEMES[next].label}`;
  return (
    <button
      type="button"
      class="square"
      id="theme"
      aria-label={words}
      title={words}
      onClick={() => change({ theme: next })}
    >
      <Icon name={icon} />
    </button>
  );
}
