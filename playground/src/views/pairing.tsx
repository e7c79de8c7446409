/** Extensions that ask for access: approved or refused here. */

import type { VNode } from "preact";
import { decide, origins } from "../server.js";

export function Pairing(): VNode {
  return (
    <section id="pairing" aria-live="polite" aria-label="Extensions that ask for access">
      {origins.value?.pending.map(({ origin, code }) => (
        <div class="notice pairing" key={code}>
          <span>
            <b class="break">{origin}</b> asks for access. Does it show the code{" "}
            <strong class="code">{code}</strong>?
          </span>
          <button type="button" class="main" onClick={() => void decide("approve", origin)}>
            Approve
          </button>
          <button type="button" onClick={() => void decide("revoke", origin)}>
            Refuse
          </button>
        </div>
      ))}
    </section>
  );
}
