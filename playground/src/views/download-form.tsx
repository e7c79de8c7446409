/** Asks for a model of the Hugging Face Hub, and shows how far its download is. */

import type { VNode } from "preact";
import { useRef } from "preact/hooks";
import { cancelDownload, download, downloadModel, downloadProblem } from "../download.js";
import { size } from "../size.js";

export function DownloadForm(): VNode {
  const input = useRef<HTMLInputElement>(null);
  const running = download.value;
  const submit = async (event: Event) => {
    event.preventDefault();
    const model = input.current?.value.trim();
    if (model && (await downloadModel(model)) && input.current) input.current.value = "";
  };
  return (
    <form id="download" onSubmit={(event) => void submit(event)}>
      <label for="reference">Download from the Hugging Face Hub</label>
      <input
        id="reference"
        ref={input}
        required
        readOnly={running !== null}
        spellcheck={false}
        autocomplete="off"
        placeholder="owner/repo or owner/repo:Q4_K_M"
      />
      {/* Two elements: one that became the other while it is clicked would submit. */}
      {running ? (
        <button key="cancel" type="button" onClick={cancelDownload}>
          Cancel
        </button>
      ) : (
        <button key="download" type="submit">
          Download
        </button>
      )}
      {running && (
        <>
          <progress
            {...(running.total > 0 && { value: running.done / running.total })}
            aria-label={`Downloading ${running.model}`}
          />
          <small>
            {running.total > 0
              ? `${running.file} · ${size(running.done)} of ${size(running.total)}`
              : "Asking the Hub…"}
          </small>
        </>
      )}
      {downloadProblem.value && (
        <p class="bad" role="alert">
          {downloadProblem.value}
        </p>
      )}
    </form>
  );
}
