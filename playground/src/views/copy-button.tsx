/** A button that puts a text on the clipboard. */

import { useSignal } from "@preact/signals";
import type { VNode } from "preact";
import { Icon } from "./icons.js";

const SHOWN_FOR = 1_500; // milliseconds

export function CopyButton({ text, what }: { text: string; what: string }): VNode | null {
  const isDone = useSignal(false);
  if (!navigator.clipboard) return null; // a page that is not secure has none
  const copy = async () => {
    await navigator.clipboard.writeText(text);
    isDone.value = true;
    setTimeout(() => {
      isDone.value = false;
    }, SHOWN_FOR);
  };
  return (
    <button type="button" class="quiet" aria-label={`Copy ${what}`} onClick={() => void copy()}>
      <Icon name={isDone.value ? "check" : "copy"} />
      <span aria-live="polite">{isDone.value ? "Copied" : "Copy"}</span>
    </button>
  );
}
