/** WebRTC connections of a browser that a test can cut. */

import type { ConnectOptions, PeerConnectionClass } from "../../src/index.js";
import type { Line } from "../resume-behaviour.js";

export class PeerLine implements Line {
  cutAfter = Number.POSITIVE_INFINITY;
  readonly options: ConnectOptions;
  readonly #connections: RTCPeerConnection[] = [];
  readonly #channels: RTCDataChannel[] = [];

  constructor(options: ConnectOptions) {
    this.options = { ...options, via: "webrtc", RTCPeerConnection: this.#watched() };
  }

  get connections(): number {
    return this.#connections.length;
  }

  cut(): void {
    for (const connection of this.#connections) connection.close();
  }

  stall(): void {
    for (const channel of this.#channels) channel.onmessage = null;
  }

  async close(): Promise<void> {
    this.cut();
  }

  #watched(): PeerConnectionClass {
    const line = this;
    return class extends RTCPeerConnection {
      constructor(configuration?: RTCConfiguration) {
        super(configuration);
        line.#connections.push(this);
      }

      override createDataChannel(label: string): RTCDataChannel {
        const channel = super.createDataChannel(label);
        channel.addEventListener("message", ({ data }) => line.#count(String(data).length));
        line.#channels.push(channel);
        return channel;
      }
    };
  }

  #count(bytes: number): void {
    this.cutAfter -= bytes;
    if (this.cutAfter > 0) return;
    this.cutAfter = Number.POSITIVE_INFINITY;
    this.cut();
  }
}
