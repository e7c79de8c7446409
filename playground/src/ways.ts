/** The ways to the server that this page offers. */

import type { TransportKind } from "@tabagent/client";

/** What the client can go by becomes a choice by its line here. */
export const WAYS = {
  http: "HTTP",
  ws: "WebSocket",
  webrtc: "WebRTC",
} as const satisfies Partial<Record<TransportKind, string>>;

export type Way = keyof typeof WAYS;
