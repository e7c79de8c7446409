/** Answers that outlive their connection, against the real server. */

import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, inject, it } from "vitest";
import { WebSocket } from "ws";
import { type Client, type ConnectOptions, connect, type ResumePoint } from "../src/index.js";
import { Relay } from "./proxy.js";
import { ANSWER, Home, type Server } from "./server.js";

const COUNT = { input: "Count!", temperature: 0 };
/** Makes an answer of some 100 kB, however many tokens go into an event. */
const VERBOSE = { include: ["message.output_text.logprobs"], top_logprobs: 5 };

describe("a dropped socket", () => {
  let relay: Relay;
  let url: string;
  const clients: Client[] = [];

  beforeEach(async () => {
    relay = new Relay(Number(new URL(inject("url")).port));
    url = await relay.listen();
  });

  afterEach(async () => {
    for (const client of clients.splice(0)) client.close();
    await relay.close();
  });

  async function open(options: ConnectOptions = {}): Promise<Client> {
    const client = await connect({ url, WebSocket, via: "ws", ...options });
    clients.push(client);
    return client;
  }

  it.each([1, 300, 1_000, 2_500, 5_000, 10_000, 50_000])(
    "after %i bytes loses no token and doubles none",
    async (bytes) => {
      const client = await open();
      relay.cutAfter = bytes;
      const numbers: number[] = [];
      let text = "";
      for await (const event of client.respond({ ...COUNT, ...VERBOSE })) {
        if ("sequence_number" in event) numbers.push(event.sequence_number);
        if (event.type === "response.output_text.delta") text += event.delta;
      }
      expect(text).toBe(ANSWER);
      expect(numbers).toEqual(numbers.map((_, index) => index));
      expect(relay.connections).toBe(2);
    },
  );

  it("again and again loses no token either", async () => {
    const client = await open();
    let text = "";
    let pieces = 0;
    for await (const piece of client.respond(COUNT).textStream()) {
      text += piece;
      pieces += 1;
      if (pieces % 5 === 0 && pieces <= 25) relay.cut();
    }
    expect(text).toBe(ANSWER);
    expect(relay.connections).toBeGreaterThan(1);
  });

  it("that only fell silent is noticed by unanswered pings, and mended", async () => {
    const client = await open({ pingInterval: 50 });
    let text = "";
    for await (const piece of client.respond(COUNT).textStream()) {
      if (text === "") relay.stall();
      text += piece;
    }
    expect(text).toBe(ANSWER);
    expect(relay.connections).toBeGreaterThan(1);
  });

  it("harms none of several answers", async () => {
    const client = await open();
    const streams = [1, 2, 3].map(() => client.respond(COUNT));
    relay.cutAfter = 8_000;
    const texts = await Promise.all(streams.map((stream) => stream.text()));
    expect(texts).toEqual([ANSWER, ANSWER, ANSWER]);
  });

  it("ends an answer that is not resumable", async () => {
    const client = await open();
    const stream = client.respond({ ...COUNT, ignore_eos: true }, { resumable: false });
    const read = async () => {
      for await (const _ of stream.textStream()) relay.cut();
    };
    await expect(read()).rejects.toMatchObject({ code: "connection_lost" });
  });

  it("lets an aborted answer stay aborted", async () => {
    const client = await open();
    const controller = new AbortController();
    const stream = client.respond({ ...COUNT, ignore_eos: true }, { signal: controller.signal });
    const read = async () => {
      for await (const _ of stream.textStream()) {
        relay.cut();
        controller.abort("enough");
      }
    };
    await expect(read()).rejects.toBe("enough");
    expect(await client.respond(COUNT).text()).toBe(ANSWER);
  });

  it("is mended when the next request comes, if nothing was under way", async () => {
    const client = await open();
    const idle = new Promise<void>((resolve) => {
      client.on("state", (state) => state === "idle" && resolve());
    });
    relay.cut();
    await idle;
    expect(await client.respond(COUNT).text()).toBe(ANSWER);
    expect(relay.connections).toBe(2);
  });
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
