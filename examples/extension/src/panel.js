/** The side panel: shows the chat that the service worker keeps. */

/** @import { ChatState, FromPanel, ToPanel, Turn } from "./messages.js" */
/** @import { ErrorDetails } from "./vendor/tabagent.js" */

import { readPage } from "./page.js";
import { loadSettings, saveSettings } from "./settings.js";

const TRANSPORTS = { native: "native messaging", ws: "WebSocket", http: "HTTP", webrtc: "WebRTC" };

/**
 * @template {HTMLElement} T
 * @param {string} id
 * @param {new () => T} kind
 */
function at(id, kind) {
  const element = document.getElementById(id);
  if (!(element instanceof kind)) throw new Error(`there is no ${kind.name} ${id}`);
  return element;
}

const turns = at("turns", HTMLElement);
const prompt = at("prompt", HTMLTextAreaElement);
const model = at("model", HTMLSelectElement);
const send = at("send", HTMLButtonElement);
const stop = at("stop", HTMLButtonElement);
const summarise = at("summarise", HTMLButtonElement);
const settings = at("settings", HTMLDialogElement);

let worker = connect();
let isRunning = false;
/** Text that is not shown yet, and the speed to show with it. @type {string[]} */
const arrived = [];
/** @type {number | null} */
let latestRate = null;

/** A service worker may be ended at any time; connecting starts it again. */
function connect() {
  const port = chrome.runtime.connect();
  port.onMessage.addListener((/** @type {ToPanel} */ message) => {
    if (message.type === "state") show(message.state);
    else append(message.text, message.rate);
  });
  port.onDisconnect.addListener(() => {
    worker = connect();
  });
  return port;
}

/** @param {FromPanel} message */
function tell(message) {
  worker.postMessage(message);
}

/** @param {ChatState} state */
function show(state) {
  isRunning = state.running;
  arrived.length = 0; // the state has it
  keepingTheEndInView(() => showTurns(state));
  showModels(state);
  showProblem(state.problem);
  showProgress(state);
  showRate(state.rate);
  at("transport", HTMLElement).dataset.kind = state.transport ?? "none";
  at("transport", HTMLElement).textContent = state.transport
    ? TRANSPORTS[state.transport]
    : state.problem
      ? "not connected"
      : "connecting…";
  send.hidden = isRunning;
  stop.hidden = !isRunning;
  send.disabled = summarise.disabled = !state.ready || isRunning;
}

/** @param {ChatState} state */
function showTurns(state) {
  if (state.turns.length === 0) {
    turns.replaceChildren(at("welcome", HTMLTemplateElement).content.cloneNode(true));
    return;
  }
  const last = state.running ? state.turns.length - 1 : -1;
  turns.replaceChildren(...state.turns.map((turn, index) => turnElement(turn, index === last)));
}

/**
 * @param {Turn} turn
 * @param {boolean} isBusy
 */
function turnElement(turn, isBusy) {
  const element = document.createElement("article");
  element.className = `turn ${turn.role}`;
  element.ariaBusy = String(isBusy);
  element.append(textElement("p", (turn.shown ?? turn.text).trimStart()));
  if (turn.note) element.append(textElement("small", turn.note));
  if (turn.error) element.append(textElement("small", turn.error, "error"));
  return element;
}

/**
 * @param {string} name
 * @param {string} text
 * @param {string} [className]
 */
function textElement(name, text, className = "") {
  const element = document.createElement(name);
  element.textContent = text;
  element.className = className;
  return element;
}

/**
 * Shows more of the answer with the next frame: tokens come faster than a screen can change.
 *
 * @param {string} text
 * @param {number | null} rate
 */
function append(text, rate) {
  if (arrived.length === 0) requestAnimationFrame(showArrived);
  arrived.push(text);
  latestRate = rate;
}

function showArrived() {
  if (arrived.length === 0) return;
  const text = arrived.splice(0).join("");
  keepingTheEndInView(() => turns.lastElementChild?.firstElementChild?.append(text));
  showRate(latestRate);
}

/** @param {() => void} act */
function keepingTheEndInView(act) {
  const isAtEnd = turns.scrollHeight - turns.scrollTop - turns.clientHeight < 40;
  act();
  if (isAtEnd) turns.scrollTop = turns.scrollHeight;
}

/** @param {ChatState} state */
function showModels({ models, model: chosen, ready, running }) {
  const first = models.find(({ state }) => state === "ready");
  model.replaceChildren(
    ...models.map(({ id, state }) => new Option(state === "ready" ? id : `${id} (${state})`, id)),
  );
  if (models.length === 0) model.append(new Option(ready ? "no model" : "—", ""));
  model.value = chosen ?? first?.id ?? model.options[0]?.value ?? "";
  model.disabled = models.length === 0 || running;
}

/** @param {ErrorDetails | null} problem */
function showProblem(problem) {
  at("problem", HTMLElement).hidden = problem === null;
  if (!problem) return;
  const { title, text, command } = explain(problem);
  at("problem-title", HTMLElement).textContent = title;
  at("problem-text", HTMLElement).textContent = text;
  at("problem-command", HTMLElement).textContent = command;
  at("problem-command", HTMLElement).hidden = command === "";
}

/** @param {ErrorDetails} problem */
function explain({ code, message, ...details }) {
  switch (code) {
    case "connection_failed":
      return {
        title: "TabAgent is not running",
        text: "Let this extension start it, once and for all:",
        command: `tabagent host install ${chrome.runtime.id}`,
      };
    case "origin_not_allowed":
      return {
        title: "Approve this extension",
        text: details.pairing_code
          ? `The server knows it by the code ${details.pairing_code}. Approve it there, or run:`
          : "The server does not know it. Run:",
        command: `tabagent origins approve ${details.pairing_code ?? location.origin}`,
      };
    case "token_required":
      return {
        title: "The server needs its token",
        text: "Enter it above, at Server.",
        command: "",
      };
    default:
      return { title: "There is no connection", text: message, command: "" };
  }
}

/** @param {ChatState} state */
function showProgress({ progress }) {
  at("progress", HTMLElement).hidden = progress === null;
  at("progress-text", HTMLElement).textContent = progress?.text ?? "";
  const bar = at("progress-part", HTMLProgressElement);
  bar.hidden = progress?.part == null;
  bar.value = progress?.part ?? 0;
}

/** @param {number | null} rate */
function showRate(rate) {
  const text = rate === null ? "" : `${rate.toFixed(rate < 100 ? 1 : 0)} tokens/s`;
  at("rate", HTMLElement).textContent = text;
}

function ask() {
  const text = prompt.value.trim();
  if (!text || isRunning || send.disabled) return;
  prompt.value = "";
  tell({ type: "ask", text });
}

async function summarisePage() {
  try {
    const page = await readPage();
    tell({
      type: "ask",
      text: `Summarise this page in a few sentences.\n\n# ${page.title}\n\n${page.text}`,
      shown: `Summarise “${page.title}”`,
    });
  } catch (error) {
    showProblem({ code: "page", message: `This page cannot be read: ${String(error)}` });
  }
  prompt.focus();
}

at("composer", HTMLFormElement).addEventListener("submit", (event) => {
  event.preventDefault();
  ask();
});
prompt.addEventListener("keydown", (event) => {
  if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
    event.preventDefault();
    ask();
  }
});
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape" && isRunning) tell({ type: "stop" });
});
stop.addEventListener("click", () => {
  tell({ type: "stop" });
  prompt.focus();
});
at("clear", HTMLButtonElement).addEventListener("click", () => {
  tell({ type: "clear" });
  prompt.focus();
});
model.addEventListener("change", () => tell({ type: "choose", model: model.value }));
summarise.addEventListener("click", () => void summarisePage());
at("retry", HTMLButtonElement).addEventListener("click", () => tell({ type: "reconnect" }));

at("open-settings", HTMLButtonElement).addEventListener("click", async () => {
  const { url, token } = await loadSettings();
  at("url", HTMLInputElement).value = url;
  at("token", HTMLInputElement).value = token;
  settings.returnValue = "";
  settings.showModal();
});
at("close-settings", HTMLButtonElement).addEventListener("click", () => settings.close());
settings.addEventListener("close", async () => {
  if (settings.returnValue !== "save") return;
  const [url, token] = [at("url", HTMLInputElement).value, at("token", HTMLInputElement).value];
  await saveSettings({ url, token });
  tell({ type: "reconnect" });
});
