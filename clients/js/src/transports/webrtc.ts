/** WebRTC: a data channel, for pages and offscreen documents; the offer goes over HTTP. */

import { ChunkJoiner, fits, splitText } from "../chunks.js";
import { connectionFailed, connectionLost, errorFrom, TabagentError } from "../errors.js";
import { body, request, type ServerAddress, unreadable } from "../request.js";
import type { Dialer, Transport, TransportListener } from "../transport.js";
import { type Message, newId } from "../wire.js";

/** A class like the browsers' `RTCPeerConnection`. */
export type PeerConnectionClass = new (configuration?: RTCConfiguration) => RTCPeerConnection;

export interface WebRtcOptions extends ServerAddress {
  /** The class to use; the global one by default. */
  RTCPeerConnection?: PeerConnectionClass;
}

const CALLS = "/v1/realtime/calls";
const LABEL = "tabagent"; // which makes the channel speak our protocol, in chunks

/** Bytes of one message that every peer takes. */
const MAX_MESSAGE_BYTES = 16 * 1024;

/** Bytes waiting in the channel above which sending waits, and below which it goes on. */
const HIGH_WATER = 64 * 1024;
const LOW_WATER = 16 * 1024;

/** Milliseconds for finding addresses; those of a server that is down are not waited for. */
const GATHERING_TIMEOUT = 3_000;
/** Milliseconds for connecting; the server allows as many. */
const CONNECT_TIMEOUT = 10_000;
/** Milliseconds for the last messages, such as cancellations, to go out. */
const CLOSE_TIMEOUT = 1_000;

/** Returns what calls the server, with the STUN and TURN servers that it names. */
export function webRtcDialer(options: WebRtcOptions): Dialer {
  return {
    kind: "webrtc",
    dial: async (listener, signal) => {
      const PeerConnection = options.RTCPeerConnection ?? globalThis.RTCPeerConnection;
      if (!PeerConnection) {
        const hint = "a service worker has it in an offscreen document only";
        throw connectionFailed(`there is no WebRTC here; ${hint}`);
      }
      const configuration = await askConfiguration(options, signal);
      const call = new Call(options, new PeerConnection(configuration));
      try {
        await call.open(signal);
      } catch (error) {
        call.end();
        signal.throwIfAborted();
        if (error instanceof TabagentError) throw error;
        throw connectionFailed(`no data channel to ${options.url} can be opened`, error);
      }
      return new DataChannelTransport(call, listener);
    },
  };
}

/**
 * Resolves to how to reach the server. Whom it does not tell needs no help to do so: an extension's
 * `GET` carries no origin, but where an origin is enough, the server is on the same machine. Others
 * hear the refusal in the answer to their offer.
 */
async function askConfiguration(
  server: ServerAddress,
  signal: AbortSignal,
): Promise<RTCConfiguration> {
  const response = await request(server, CALLS, { signal });
  return response.ok ? ((await response.json()) as RTCConfiguration) : {};
}

/** One peer connection and its call at the server. */
class Call {
  readonly channel: RTCDataChannel;
  readonly connection: RTCPeerConnection;
  readonly #server: ServerAddress;
  #location: string | null = null;
  #hasEnded = false;

  constructor(server: ServerAddress, connection: RTCPeerConnection) {
    this.#server = server;
    this.connection = connection;
    this.channel = connection.createDataChannel(LABEL);
  }

  /** Resolves once the channel is open. */
  async open(signal: AbortSignal): Promise<void> {
    await this.connection.setLocalDescription();
    // Where no server helps, the other side finds us by our own checks: nothing to wait for.
    if (this.connection.getConfiguration().iceServers?.length) await this.#gather(signal);
    const offer = this.connection.localDescription as RTCSessionDescription;
    const response = await request(this.#server, CALLS, { body: offer.sdp, signal });
    if (!response.ok) throw errorFrom(await body(response), unreadable(response));
    this.#location = response.headers.get("Location");
    const sdp = await response.text();
    await this.connection.setRemoteDescription({ type: "answer", sdp });
    const stop = AbortSignal.any([signal, AbortSignal.timeout(CONNECT_TIMEOUT)]);
    await reached(this.channel, ["open", "close"], () => this.#isDecided, stop);
    if (this.channel.readyState !== "open") throw new Error("the server closed the channel");
  }

  /** Ends it here, and at the server, which would wait for another channel. */
  end(): void {
    if (this.#hasEnded) return;
    this.#hasEnded = true;
    this.connection.close();
    if (this.#location === null) return;
    const goodbye = { method: "DELETE", keepalive: true };
    request(this.#server, this.#location, goodbye).catch(() => {}); // it notices by itself, later
  }

  get #isDecided(): boolean {
    return this.channel.readyState !== "connecting";
  }

  /** Resolves once all addresses are known, or those that answer soon. */
  async #gather(signal: AbortSignal): Promise<void> {
    const { connection } = this;
    const stop = AbortSignal.any([signal, AbortSignal.timeout(GATHERING_TIMEOUT)]);
    const isComplete = () => connection.iceGatheringState === "complete";
    try {
      await reached(connection, ["icegatheringstatechange"], isComplete, stop);
    } catch {
      signal.throwIfAborted();
    }
  }
}

class DataChannelTransport implements Transport {
  readonly kind = "webrtc";
  readonly duplex = true;
  readonly #call: Call;
  readonly #listener: TransportListener;
  readonly #joiner = new ChunkJoiner();
  readonly #waiting: string[] = [];
  #isClosed = false;

  constructor(call: Call, listener: TransportListener) {
    this.#call = call;
    this.#listener = listener;
    const { channel, connection } = call;
    channel.bufferedAmountLowThreshold = LOW_WATER;
    channel.onbufferedamountlow = () => this.#pump();
    channel.onmessage = ({ data }) => this.#receive(String(data));
    channel.onclose = () => this.#lose("the data channel was closed");
    connection.onconnectionstatechange = () => {
      if (connection.connectionState === "failed") this.#lose("the peer cannot be reached");
    };
  }

  send(message: Message): void {
    if (this.#isClosed) return;
    const text = JSON.stringify(message);
    if (fits(text, MAX_MESSAGE_BYTES)) this.#waiting.push(text);
    else {
      for (const chunk of splitText(text, MAX_MESSAGE_BYTES, newId("chunk_"))) {
        this.#waiting.push(JSON.stringify(chunk));
      }
    }
    this.#pump();
  }

  close(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#call.channel.onmessage = null;
    this.#call.channel.onclose = () => this.#call.end();
    setTimeout(() => this.#call.end(), CLOSE_TIMEOUT);
    this.#pump();
  }

  /** Sends what the channel takes now, and closes it behind the last message. */
  #pump(): void {
    const { channel } = this.#call;
    while (channel.readyState === "open" && channel.bufferedAmount < HIGH_WATER) {
      const text = this.#waiting.shift();
      if (text === undefined) break;
      channel.send(text);
    }
    if (this.#isClosed && this.#waiting.length === 0) channel.close();
  }

  #receive(text: string): void {
    try {
      const whole = this.#joiner.receive(JSON.parse(text) as Message);
      if (whole) this.#listener.onMessage(whole);
    } catch (error) {
      if (!(error instanceof TabagentError)) throw error;
      this.#lose(error.message); // pieces are missing: only a new connection can say what was in them
    }
  }

  #lose(reason: string): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#call.end();
    this.#listener.onClose(connectionLost(reason));
  }
}

/** Resolves once `isReached` holds, which is asked at each of the events; rejects at `signal`. */
function reached(
  target: EventTarget,
  events: string[],
  isReached: () => boolean,
  signal: AbortSignal,
): Promise<void> {
  return new Promise((resolve, reject) => {
    signal.throwIfAborted();
    const settled = new AbortController();
    const settle = (act: () => void) => {
      settled.abort();
      act();
    };
    const look = () => isReached() && settle(resolve);
    for (const name of events) target.addEventListener(name, look, { signal: settled.signal });
    const abort = () => settle(() => reject(signal.reason));
    signal.addEventListener("abort", abort, { signal: settled.signal });
    look();
  });
}
