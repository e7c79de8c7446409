/** What can go wrong, under the server's stable codes. */

/** Codes that the server sends. */
export type ServerErrorCode =
  | "invalid_message"
  | "unknown_type"
  | "invalid_parameter"
  | "context_length_exceeded"
  | "gguf_invalid"
  | "gguf_unsupported"
  | "token_required"
  | "origin_not_allowed"
  | "scope_required"
  | "model_not_found"
  | "response_not_found"
  | "resume_expired"
  | "message_too_big"
  | "host_not_allowed"
  | "overloaded"
  | "library_not_found"
  | "abi_unsupported"
  | "runtime_conflict"
  | "model_load_failed"
  | "decode_failed"
  | "not_supported"
  | "upstream_failed"
  | "shutting_down"
  | "out_of_memory";

/** Codes of this library: nobody answered; or the answer was cut off and cannot be resumed. */
export type ClientErrorCode = "connection_failed" | "connection_lost";

/** A code; servers newer than this library may send more. */
export type ErrorCode = ServerErrorCode | ClientErrorCode | (string & {});

/** The `error` object of the wire. */
export interface ErrorDetails {
  code: ErrorCode;
  message: string;
  type?: string;
  param?: string | null;
  /** Under this code an extension that is not approved can be approved at the server. */
  pairing_code?: string;
  [more: string]: unknown;
}

/** An error with a stable `code`; the message is for people and may change. */
export class TabagentError extends Error {
  override readonly name = "TabagentError";
  readonly code: ErrorCode;
  /** The field that is to blame, if one is. */
  readonly param: string | null;
  /** The error as the server sent it. */
  readonly details: Readonly<ErrorDetails>;

  constructor(details: ErrorDetails, options?: ErrorOptions) {
    super(details.message, options);
    this.code = details.code;
    this.param = details.param ?? null;
    this.details = details;
  }
}

/** Returns the error that no server answered. */
export function connectionFailed(message: string, cause?: unknown): TabagentError {
  return new TabagentError({ code: "connection_failed", message }, { cause });
}

/** Returns the error that a connection ended. */
export function connectionLost(message: string, cause?: unknown): TabagentError {
  return new TabagentError({ code: "connection_lost", message }, { cause });
}

/** Reads the `error` object of a message or a body; what is none becomes `fallback`. */
export function errorFrom(body: unknown, fallback: TabagentError): TabagentError {
  const error = (body as { error?: unknown } | null)?.error as Partial<ErrorDetails> | undefined;
  if (typeof error?.code !== "string" || typeof error.message !== "string") return fallback;
  return new TabagentError(error as ErrorDetails);
}
