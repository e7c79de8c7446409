/** Where the server is, for the times when native messaging does not find it. */

/** @import { Settings } from "./messages.js" */

/** @type {Settings} */
const DEFAULTS = { url: "http://127.0.0.1:8484", token: "" };

/** @returns {Promise<Settings>} */
export async function loadSettings() {
  return /** @type {Settings} */ (await chrome.storage.local.get({ ...DEFAULTS }));
}

/** @param {Settings} settings */
export async function saveSettings({ url, token }) {
  await chrome.storage.local.set({ url: url || DEFAULTS.url, token });
}
