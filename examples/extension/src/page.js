/** Reads the text of the page in the current tab. */

/** About as much as a small context holds beside the answer. */
const MAX_CHARS = 12_000;

/**
 * Asks the user for access to pages where a click on the extension's icon has not given it.
 *
 * @returns {Promise<{title: string, text: string}>}
 */
export async function readPage() {
  const [tab] = await chrome.tabs.query({ active: true, currentWindow: true });
  if (tab?.id === undefined) throw new Error("there is no tab");
  try {
    return await textOf(tab.id);
  } catch (error) {
    const allowed = await chrome.permissions.request({ origins: ["http://*/*", "https://*/*"] });
    if (!allowed) throw error;
    return textOf(tab.id);
  }
}

/** @param {number} tabId */
async function textOf(tabId) {
  const [injection] = await chrome.scripting.executeScript({
    target: { tabId },
    args: [MAX_CHARS],
    func: (/** @type {number} */ limit) => {
      const main = document.querySelector("main, article") ?? document.body;
      const text = /** @type {HTMLElement} */ (main).innerText.replace(/\n{3,}/g, "\n\n").trim();
      return { title: document.title || location.hostname, text: text.slice(0, limit) };
    },
  });
  if (!injection?.result?.text) throw new Error("it has no text");
  return injection.result;
}
