/** Streams tokens from a local TabAgent server, over any transport. */

export { Client, type ClientOptions, type ClientState, type RespondOptions } from "./client.js";
export { type ConnectOptions, connect } from "./connect.js";
export {
  type ClientErrorCode,
  type ErrorCode,
  type ErrorDetails,
  type ServerErrorCode,
  TabagentError,
} from "./errors.js";
export {
  type LanguageModelAvailability,
  type LanguageModelCreateOptions,
  type LanguageModelFactory,
  type LanguageModelOptions,
  languageModel,
} from "./language-model.js";
export type {
  LanguageModelCoreOptions,
  LanguageModelPromptOptions,
  LanguageModelSession,
} from "./language-model-session.js";
export type { Models, PullOptions } from "./models.js";
export type {
  LanguageModelContent,
  LanguageModelMessage,
  LanguageModelPrompt,
  LanguageModelRole,
} from "./prompts.js";
export type { ResponseStream } from "./response.js";
export {
  extensionStore,
  type ResumePoint,
  type ResumeStore,
  type StorageArea,
} from "./resume.js";
export type { TransportKind } from "./transport.js";
export type { NativePort, NativeRuntime } from "./transports/native.js";
export type { PeerConnectionClass } from "./transports/webrtc.js";
export type * from "./wire.js";
