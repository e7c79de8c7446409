/** One HTTP request to the server, with what proves who calls. */

import { connectionFailed, type TabagentError } from "./errors.js";

export interface ServerAddress {
  /** The server's address, without a path or a slash at the end. */
  url: string;
  token?: string;
}

export interface RequestOptions {
  /** `POST` with a body and `GET` without one, unless it says otherwise. */
  method?: string;
  /** An object goes as JSON, a string as a session description. */
  body?: object | string;
  signal?: AbortSignal;
  /** Whether it goes out even while the page is left. */
  keepalive?: boolean;
}

/** Resolves to the answer, whatever its status; rejects with `connection_failed` without one. */
export async function request(
  { url, token }: ServerAddress,
  path: string,
  { body, method = body ? "POST" : "GET", signal, keepalive = false }: RequestOptions,
): Promise<Response> {
  const isText = typeof body === "string";
  const headers: Record<string, string> = {};
  if (token) headers.Authorization = `Bearer ${token}`;
  if (body) headers["Content-Type"] = isText ? "application/sdp" : "application/json";
  try {
    return await fetch(url + path, {
      method,
      headers,
      keepalive,
      credentials: "omit",
      ...(signal && { signal }),
      ...(body && { body: isText ? body : JSON.stringify(body) }),
    });
  } catch (error) {
    signal?.throwIfAborted();
    const hint = "it may not be running, or this origin may not be approved";
    throw connectionFailed(`no answer from ${url}: ${hint}`, error);
  }
}

/** Resolves to the JSON of an answer; null when it is none. */
export async function body(response: Response): Promise<unknown> {
  return response.json().catch(() => null);
}

/** Returns the error that an answer is not the server's. */
export function unreadable(response: Response): TabagentError {
  return connectionFailed(`${response.url} answered ${response.status}, not as TabAgent does`);
}
