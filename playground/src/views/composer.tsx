/** Where messages are written, sent and stopped. */

import { useSignal } from "@preact/signals";
import type { VNode } from "preact";
import { useEffect, useRef } from "preact/hooks";
import { ask, running, startAnew, stop, turns } from "../chat.js";
import { client } from "../server.js";
import { change, schemaProblem, settings } from "../settings.js";
import { Icon } from "./icons.js";

/** For browsers that do not fit a field to its content by themselves. */
const MOST_ROWS = 8;

export function Composer(): VNode {
  const text = useSignal("");
  const prompt = useRef<HTMLTextAreaElement>(null);
  const isRunning = running.value !== null;
  const canAsk = !isRunning && client.value !== null && text.value.trim() !== "";

  useEffect(() => {
    prompt.current?.focus();
    const stopAtEscape = ({ key }: KeyboardEvent) => {
      if (key === "Escape") stop();
    };
    document.addEventListener("keydown", stopAtEscape);
    return () => document.removeEventListener("keydown", stopAtEscape);
  }, []);

  const submit = (event: Event) => {
    event.preventDefault();
    if (!canAsk) return;
    if (schemaProblem(settings.peek())) {
      change({ isPanelOpen: true });
      return;
    }
    void ask(text.value.trim());
    text.value = "";
    prompt.current?.focus();
  };

  const sendAtEnter = (event: KeyboardEvent) => {
    if (event.key === "Enter" && !event.shiftKey && !event.isComposing) submit(event);
  };

  return (
    <form class="composer" onSubmit={submit}>
      <textarea
        id="prompt"
        ref={prompt}
        rows={Math.min(text.value.split("\n").length, MOST_ROWS)}
        aria-label="Message"
        placeholder="Ask something…"
        value={text.value}
        onInput={({ currentTarget }) => {
          text.value = currentTarget.value;
        }}
        onKeyDown={sendAtEnter}
      />
      <div class="tools">
        <button
          type="button"
          class="quiet"
          disabled={turns.value.length === 0}
          onClick={() => {
            startAnew();
            prompt.current?.focus();
          }}
        >
          <Icon name="plus" /> New chat
        </button>
        <span class="keys">
          <kbd>Enter</kbd> send <kbd>Shift</kbd>+<kbd>Enter</kbd> new line <kbd>Esc</kbd> stop
        </span>
        {isRunning ? (
          <button
            type="button"
            class="main"
            id="stop"
            onClick={() => {
              stop();
              prompt.current?.focus();
            }}
          >
            <Icon name="stop" /> Stop
          </button>
        ) : (
          <button type="submit" class="main" id="send" disabled={!canAsk}>
            <Icon name="send" /> Send
          </button>
        )}
      </div>
    </form>
  );
}
