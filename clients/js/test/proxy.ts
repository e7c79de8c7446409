/** A TCP relay in front of a server whose connections a test can cut. */

import { once } from "node:events";
import { type AddressInfo, connect, createServer, type Socket } from "node:net";

export class Relay {
  /** Bytes of answers to let through, over all connections, before the next cut. */
  cutAfter = Number.POSITIVE_INFINITY;
  /** Connections made so far. */
  connections = 0;
  readonly #sockets = new Set<Socket>();
  readonly #server = createServer((client) => this.#relay(client));
  readonly #target: number;

  constructor(target: number) {
    this.#target = target;
  }

  async listen(): Promise<string> {
    this.#server.listen(0, "127.0.0.1");
    await once(this.#server, "listening");
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  /** Cuts every connection, without a goodbye. */
  cut(): void {
    for (const socket of this.#sockets) socket.resetAndDestroy();
  }

  /** Lets nothing through any more on the connections that are there, without ending them. */
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
