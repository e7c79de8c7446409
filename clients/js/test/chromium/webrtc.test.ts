/** The client in Chromium, over a data channel. */

import { beforeAll, beforeEach, describe, expect, inject, it, vi } from "vitest";
import { commands } from "vitest/browser";
import { type ConnectOptions, connect } from "../../src/index.js";
import { ANSWER } from "../answer.js";
import { behavesAsAClient } from "../client-behaviour.js";
import { losesNothing } from "../resume-behaviour.js";
import { PeerLine } from "./peer-line.js";

const url = inject("url");
const server = { url, token: inject("token"), via: "webrtc" } satisfies ConnectOptions;
const COUNT = { input: "Count!", temperature: 0 };

beforeAll(() => commands.approve(url, location.origin));

describe("over webrtc", () => {
  behavesAsAClient(server);

  it("joins a message of more than 1 MiB", async () => {
    const client = await connect(server);
    const response = await client
      .respond({
        ...COUNT,
        ignore_eos: true,
        max_output_tokens: 900,
        include: ["message.output_text.logprobs"],
        top_logprobs: 20,
      })
      .completed();
    expect(JSON.stringify(response).length).toBeGreaterThan(1024 * 1024);
    expect(response.output[0]?.content[0]?.text.startsWith(ANSWER)).toBe(true);
    client.close();
  });
});

describe("a dropped data channel", () => {
  losesNothing(async () => new PeerLine(server));
});

describe("a call", () => {
  const fetched = vi.spyOn(globalThis, "fetch");

  beforeEach(() => void fetched.mockClear());

  /** Resolves to where the calls made so far are, in their order. */
  async function locations(): Promise<string[]> {
    const offers = fetched.mock.calls.flatMap(([, init], index) =>
      init?.method === "POST" ? [fetched.mock.results[index]?.value as Promise<Response>] : [],
    );
    return (await Promise.all(offers)).map(({ headers }) => url + headers.get("Location"));
  }

  async function hangUp(location = ""): Promise<number> {
    const headers = { Authorization: `Bearer ${server.token}` };
    return (await fetch(location, { method: "DELETE", headers })).status;
  }

  /** Resolves once the client has told the server that the last call is over, and it is. */
  async function ended(): Promise<void> {
    const location = (await locations()).at(-1) as string;
    const goodbye = () =>
      fetched.mock.calls.findIndex(
        ([to, init]) => String(to) === location && init?.method === "DELETE",
      );
    await vi.waitFor(() => expect(goodbye()).toBeGreaterThan(0));
    await fetched.mock.results[goodbye()]?.value;
    expect(await hangUp(location)).toBe(404);
  }

  it("that the server ends is made again, and no token is lost or doubled", async () => {
    const client = await connect(server);
    let text = "";
    for await (const piece of client.respond(COUNT).textStream()) {
      if (text === "") {
        expect(await hangUp((await locations())[0])).toBe(200);
      }
      text += piece;
    }
    expect(text).toBe(ANSWER);
    expect(await locations()).toHaveLength(2);
    client.close();
  });

  it("is ended at the server when the client is closed", async () => {
    const client = await connect(server);
    client.close();
    await ended();
  });

  it("is ended at the server when connecting is given up", async () => {
    const controller = new AbortController();
    class Slow extends RTCPeerConnection {
      override setRemoteDescription(): Promise<void> {
        return new Promise((_, reject) => {
          controller.abort("enough");
          reject(new Error("not taken"));
        });
      }
    }
    const given = connect({ ...server, RTCPeerConnection: Slow, signal: controller.signal });
    await expect(given).rejects.toBe("enough");
    await ended();
  });

  it("never has much more to send than the channel has taken", async () => {
    const waiting: number[] = [];
    class Watched extends RTCPeerConnection {
      override createDataChannel(label: string): RTCDataChannel {
        const channel = super.createDataChannel(label);
        const send = channel.send.bind(channel) as (text: string) => void;
        channel.send = (text: unknown) => {
          send(text as string);
          waiting.push(channel.bufferedAmount);
        };
        return channel;
      }
    }
    const client = await connect({ ...server, RTCPeerConnection: Watched });
    const long = client.respond({ input: "x".repeat(4 * 1024 * 1024) });
    await expect(long.text()).rejects.toMatchObject({ code: "message_too_big" });
    expect(waiting.length).toBeGreaterThan(64);
    expect(Math.max(...waiting)).toBeLessThanOrEqual(80 * 1024);
    client.close();
  });
});
