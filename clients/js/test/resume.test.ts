/** Answers that outlive their connection, against the real server. */

import { afterAll, beforeAll, describe, expect, inject, it } from "vitest";
import { WebSocket } from "ws";
import { connect, type ResumePoint } from "../src/index.js";
import { Relay } from "./proxy.js";
import { losesNothing } from "./resume-behaviour.js";
import { ANSWER, Home, type Server } from "./server.js";

const COUNT = { input: "Count!", temperature: 0 };

describe("a dropped socket", () => {
  losesNothing(() => Relay.open(Number(new URL(inject("url")).port)));
});

describe("a killed program", () => {
  const url = inject("url");

  /** An extension's session storage: it outlives the programs that use it. */
  class Storage {
    #kept: ResumePoint[] = [];

    /** The storage as one program sees it, until that is killed. */
    open(life: Life) {
      return {
        load: () => Promise.resolve(structuredClone(this.#kept)),
        save: (points: ResumePoint[]) => {
          if (life.isAlive) this.#kept = structuredClone(points);
          return Promise.resolve();
        },
      };
    }
  }

  /** A program whose sockets vanish with it: it hears nothing more and says nothing more. */
  class Life {
    isAlive = true;
    readonly #sockets: WebSocket[] = [];
    readonly WebSocket: new (
      url: string,
      protocols: string[],
    ) => WebSocket;

    constructor() {
      const sockets = this.#sockets;
      this.WebSocket = class extends WebSocket {
        constructor(address: string, protocols: string[]) {
          super(address, protocols);
          sockets.push(this);
        }
      };
    }

    kill(): void {
      this.isAlive = false;
      for (const socket of this.#sockets) {
        socket.onmessage = null;
        socket.onclose = null;
        socket.terminate();
      }
    }
  }

  it("finds its answer again and reads it to the end", async () => {
    const storage = new Storage();
    const life = new Life();
    const mortal = {
      url,
      via: "ws",
      WebSocket: life.WebSocket,
      store: storage.open(life),
    } as const;
    const first = await connect(mortal);
    for await (const event of first.respond({ ...COUNT, metadata: { chat: "7" } })) {
      if (event.type !== "response.output_text.delta") continue;
      life.kill();
      break;
    }

    const store = storage.open(new Life());
    const second = await connect({ url, WebSocket, via: "ws", store });
    const [point] = second.unfinished();
    expect(point?.metadata).toEqual({ chat: "7" });
    const resumed = second.resume(point as ResumePoint);
    const pieces: string[] = [];
    for await (const piece of resumed.textStream()) pieces.push(piece);
    expect(pieces.join("")).toBe(ANSWER);
    expect((await resumed.completed()).status).toBe("completed");
    expect(second.unfinished()).toEqual([]);
    expect(await store.load()).toEqual([]);
    second.close();
    first.close();
  });

  it("gets the code when there is no such answer", async () => {
    const client = await connect({ url, WebSocket, via: "ws" });
    const stream = client.resume({
      response_id: "resp_nobody",
      stream_id: "stream_nobody",
      starting_after: 3,
      text: "",
      metadata: {},
    });
    await expect(stream.text()).rejects.toMatchObject({ code: "response_not_found" });
    client.close();
  });
});

describe("a server that is started again", () => {
  let home: Home;
  let server: Server;

  beforeAll(async () => {
    home = new Home();
    server = await home.serve();
  });

  afterAll(async () => {
    await server.stop();
    home.remove();
  });

  it("answers new requests of the same client; what it forgot has a code", async () => {
    const port = String(server.port);
    const client = await connect({ url: server.url, WebSocket, via: "ws" });
    const stream = client.respond({ ...COUNT, ignore_eos: true });
    const read = async () => {
      for await (const _ of stream.textStream()) {
        await server.stop("SIGKILL");
        server = await home.serve("--port", port);
      }
    };
    await expect(read()).rejects.toMatchObject({ code: "response_not_found" });
    expect(await client.respond(COUNT).text()).toBe(ANSWER);
    client.close();
  });

  it("is given up after the resume window", async () => {
    const client = await connect({ url: server.url, WebSocket, via: "ws", resumeWindow: 0 });
    const stream = client.respond({ ...COUNT, ignore_eos: true });
    const read = async () => {
      for await (const _ of stream.textStream()) await server.stop("SIGKILL");
    };
    await expect(read()).rejects.toMatchObject({ code: "connection_lost" });
    client.close();
  });
});
