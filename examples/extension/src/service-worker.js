/** The extension's background: keeps the chat, whichever panels come and go. */

/** @import { FromPanel, ToPanel } from "./messages.js" */

import { Chat } from "./chat.js";

/** @type {Set<chrome.runtime.Port>} */
const panels = new Set();

const chat = new Chat((/** @type {ToPanel} */ message) => {
  for (const panel of panels) panel.postMessage(message);
});

chrome.runtime.onConnect.addListener((panel) => {
  panels.add(panel);
  panel.onDisconnect.addListener(() => panels.delete(panel));
  panel.onMessage.addListener((message) => void chat.receive(/** @type {FromPanel} */ (message)));
  panel.postMessage({ type: "state", state: chat.state });
});

// A click, not `openPanelOnActionClick`: it lets us read the page it was made on.
chrome.action.onClicked.addListener(({ windowId }) => void chrome.sidePanel.open({ windowId }));

void chat.start();
