/** A TCP relay in front of a server whose connections a test can cut. */

import { once } from "node:events";
import { type AddressInfo, connect, createServer, type Socket } from "node:net";
import { WebSocket } from "ws";
import type { ConnectOptions } from "../src/index.js";
import type { Line } from "./resume-behaviour.js";

export class Relay implements Line {
  cutAfter = Number.POSITIVE_INFINITY;
  connections = 0;
  readonly #sockets = new Set<Socket>();
  readonly #server = createServer((client) => this.#relay(client));
  readonly #target: number;

  private constructor(target: number) {
    this.#target = target;
  }

  /** Resolves to a relay to a port of this machine. */
  static async open(target: number): Promise<Relay> {
    const relay = new Relay(target);
    relay.#server.listen(0, "127.0.0.1");
    await once(relay.#server, "listening");
    return relay;
  }

  get options(): ConnectOptions {
    const { port } = this.#server.address() as AddressInfo;
    return { url: `http://127.0.0.1:${port}`, via: "ws", WebSocket };
  }

  cut(): void {
    for (const socket of this.#sockets) socket.resetAndDestroy();
  }

  stall(): void {
    for (const socket of this.#sockets) {
      socket.removeAllListeners("data");
      socket.unpipe();
      socket.resume();
    }
  }

  async close(): Promise<void> {
    this.cut();
    this.#server.close();
    await once(this.#server, "close");
  }

  #relay(client: Socket): void {
    this.connections += 1;
    const server = connect(this.#target, "127.0.0.1");
    const ends = [client, server];
    for (const end of ends) {
      this.#sockets.add(end);
      end.on("error", () => {});
      end.on("close", () => {
        this.#sockets.delete(end);
        for (const other of ends) other.destroy();
      });
    }
    client.pipe(server);
    server.on("data", (data) => {
      const piece = data.subarray(0, this.cutAfter);
      this.cutAfter -= piece.length;
      client.write(piece, () => {
        if (this.cutAfter > 0) return;
        this.cutAfter = Number.POSITIVE_INFINITY;
        client.destroy();
      });
    });
  }
}
