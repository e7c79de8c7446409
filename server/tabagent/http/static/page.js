// The chat page: one conversation, kept in this tab, streamed from /v1/chat/completions.

const at = (id) => document.getElementById(id);
const [messages, prompt, model, status, send, stop] =
  ["messages", "prompt", "model", "status", "send", "stop"].map(at);

const TOKEN = "tabagent.token";
const ORIGINS_INTERVAL = 3000; // milliseconds
let turns = [];
let running = null; // AbortController of the answer that streams

function headers() {
  const token = sessionStorage.getItem(TOKEN);
  return { "Content-Type": "application/json", ...(token && { Authorization: `Bearer ${token}` }) };
}

async function request(path, options = {}) {
  const response = await fetch(path, { ...options, headers: headers() });
  if (response.ok) return response;
  const body = await response.json().catch(() => null);
  if (body?.error?.code === "token_required") askForToken();
  throw new Error(body?.error?.message ?? `the server answered ${response.status}`);
}

function askForToken() {
  at("token-form").hidden = false;
  at("token").focus();
}

// The models, asked for again while one of them loads.
async function showModels() {
  try {
    const { data } = await (await request("/v1/models")).json();
    const chosen = model.value;
    model.replaceChildren(...data.map(({ id, state }) => {
      const option = new Option(state === "ready" ? id : `${id} (${state})`, id);
      option.disabled = state !== "ready" && state !== "loading";
      return option;
    }));
    const usable = data.filter(({ state }) => state === "ready" || state === "loading");
    model.value = usable.some(({ id }) => id === chosen) ? chosen : (usable[0]?.id ?? "");
    const loading = data.some(({ state }) => state === "loading");
    if (!running) status.textContent = loading ? "Loading…" : usable.length ? "Ready" : "No model is loaded";
    if (loading) setTimeout(showModels, 500);
  } catch (error) {
    status.textContent = error.message;
  }
}

// The extensions that ask for access. Who may not see them is not told.
async function showOrigins() {
  try {
    if (!document.hidden) listOrigins(await (await request("/v1/origins")).json());
    setTimeout(showOrigins, ORIGINS_INTERVAL);
  } catch {
    listOrigins({ pending: [] });
  }
}

function listOrigins({ pending }) {
  const shown = [...at("origins").children].map((element) => element.dataset.code).join();
  if (shown === pending.map(({ code }) => code).join()) return; // a button is not pulled away
  at("origins").replaceChildren(...pending.map(({ origin, code }) => {
    const element = document.createElement("div");
    element.className = "pairing";
    element.dataset.code = code;
    const text = document.createElement("span");
    const strong = document.createElement("strong");
    strong.textContent = code;
    text.append(`${origin} asks for access. Does it show the code `, strong, "?");
    element.append(text, decision("Approve", "approve", origin), decision("Refuse", "revoke", origin));
    return element;
  }));
}

function decision(label, verb, origin) {
  const button = document.createElement("button");
  button.type = "button";
  button.textContent = label;
  button.addEventListener("click", async () => {
    try {
      const options = { method: "POST", body: JSON.stringify({ origin }) };
      listOrigins(await (await request(`/v1/origins/${verb}`, options)).json());
    } catch (error) {
      status.textContent = error.message;
    }
  });
  return button;
}

function show(role, text) {
  at("hint")?.remove();
  const element = document.createElement("p");
  element.className = `message ${role}`;
  element.textContent = text;
  messages.append(element);
  messages.scrollTop = messages.scrollHeight;
  return element;
}

// The JSON values of a stream of server-sent events; comments and the last `[DONE]` are skipped.
async function* events(response) {
  let rest = "";
  for await (const text of chunks(response.body.pipeThrough(new TextDecoderStream()))) {
    const blocks = (rest + text).split("\n\n");
    rest = blocks.pop();
    for (const block of blocks) {
      if (block.startsWith("data: {")) yield JSON.parse(block.slice("data: ".length));
    }
  }
}

async function* chunks(stream) { // not every browser can iterate over a stream
  const reader = stream.getReader();
  try {
    for (let next = await reader.read(); !next.done; next = await reader.read()) yield next.value;
  } finally {
    reader.cancel().catch(() => {});
  }
}

async function answer(element) {
  const response = await request("/v1/chat/completions", {
    method: "POST",
    signal: running.signal,
    body: JSON.stringify({ model: model.value || null, messages: turns, stream: true }),
  });
  for await (const event of events(response)) {
    if (event.error) throw new Error(event.error.message);
    const atEnd = messages.scrollHeight - messages.scrollTop - messages.clientHeight < 40;
    element.append(event.choices[0]?.delta?.content ?? "");
    if (atEnd) messages.scrollTop = messages.scrollHeight;
    if (event.timings) showTimings(event);
  }
}

function showTimings({ model: id, timings }) {
  const rate = timings.predicted_per_second.toFixed(timings.predicted_per_second < 100 ? 1 : 0);
  status.textContent = `${id} · ${timings.predicted_n} tokens · ${rate} tokens/s`;
}

async function ask(text) {
  const conversation = turns; // "New chat" begins another one
  conversation.push({ role: "user", content: text });
  show("user", text);
  const element = show("assistant", "");
  element.classList.add("streaming");
  running = new AbortController();
  setRunning(true);
  status.textContent = "Waiting…";
  try {
    await answer(element);
  } catch (error) {
    if (error.name === "AbortError") status.textContent = "Stopped";
    else {
      show("error", error.message).setAttribute("role", "alert");
      status.textContent = "Failed";
    }
  } finally {
    running = null;
    setRunning(false);
    element.classList.remove("streaming");
    if (element.textContent) conversation.push({ role: "assistant", content: element.textContent });
    else {
      element.remove();
      conversation.pop();
    }
    prompt.focus();
  }
}

function setRunning(is) {
  send.hidden = is;
  stop.hidden = !is;
}

function fitPrompt() {
  prompt.style.height = "auto";
  prompt.style.height = `${prompt.scrollHeight + 2}px`;
}

at("composer").addEventListener("submit", (event) => {
  event.preventDefault();
  const text = prompt.value.trim();
  if (!text || running) return;
  prompt.value = "";
  fitPrompt();
  ask(text);
});

prompt.addEventListener("input", fitPrompt);
prompt.addEventListener("keydown", (event) => {
  if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
    event.preventDefault();
    at("composer").requestSubmit();
  }
});

stop.addEventListener("click", () => running?.abort());
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape") running?.abort();
});

at("clear").addEventListener("click", () => {
  running?.abort();
  turns = [];
  messages.replaceChildren();
  prompt.focus();
});

at("token-form").addEventListener("submit", (event) => {
  event.preventDefault();
  sessionStorage.setItem(TOKEN, at("token").value);
  at("token-form").hidden = true;
  showModels();
  showOrigins();
});

showModels();
showOrigins();
