/** The frame of the page: its head, what asks for attention, and the view that is chosen. */

import { signal } from "@preact/signals";
import type { VNode } from "preact";
import { problem, reconnect } from "./server.js";
import { settings } from "./settings.js";
import { ChatView } from "./views/chat-view.js";
import { Header } from "./views/header.js";
import { Pairing } from "./views/pairing.js";
import { SettingsPanel } from "./views/settings-panel.js";
import { SystemView } from "./views/system-view.js";
import { TokenForm } from "./views/token-form.js";

/** The view that the address names. */
export const view = signal(viewOfAddress());

addEventListener("hashchange", () => {
  view.value = viewOfAddress();
});

function viewOfAddress(): "chat" | "hardware" {
  return location.hash === "#hardware" ? "hardware" : "chat";
}

export function App(): VNode {
  return (
    <div class="app">
      <Header view={view.value} />
      <div class="notices">
        <TokenForm />
        <Pairing />
        <Problem />
      </div>
      {view.value === "chat" ? (
        <div class="columns" data-panel={settings.value.isPanelOpen}>
          <ChatView />
          {settings.value.isPanelOpen && <SettingsPanel />}
        </div>
      ) : (
        <SystemView />
      )}
    </div>
  );
}

function Problem(): VNode | null {
  if (problem.value === null) return null;
  return (
    <div class="notice bad" role="alert" id="problem">
      <span>{problem.value}</span>
      <button type="button" onClick={() => void reconnect()}>
        Try again
      </button>
    </div>
  );
}
