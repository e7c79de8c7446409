/** Asks for the token of a server that needs one. */

import type { VNode } from "preact";
import { useLayoutEffect, useRef } from "preact/hooks";
import { enterToken, needsToken } from "../server.js";

export function TokenForm(): VNode | null {
  const input = useRef<HTMLInputElement>(null);
  const isNeeded = needsToken.value;
  useLayoutEffect(() => {
    if (isNeeded) input.current?.focus();
  }, [isNeeded]);
  if (!isNeeded) return null;
  const submit = (event: Event) => {
    event.preventDefault();
    if (input.current?.value) enterToken(input.current.value);
  };
  return (
    <form class="notice" id="token-form" onSubmit={submit}>
      <label for="token">This server needs its token:</label>
      <input id="token" type="password" autocomplete="current-password" required ref={input} />
      <button type="submit" class="main">
        Use it
      </button>
    </form>
  );
}
