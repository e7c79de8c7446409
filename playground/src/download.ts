/** The model that the server downloads for this page. */

import { signal } from "@preact/signals";
import { client, messageOf, refreshModels } from "./server.js";

export interface Download {
  /** What was asked for. */
  model: string;
  /** The file that arrives; empty until the Hub has answered. */
  file: string;
  /** Bytes of the whole model. */
  done: number;
  total: number;
}

/** The download that runs; null while none does. */
export const download = signal<Download | null>(null);
/** Why the last one failed. */
export const downloadProblem = signal<string | null>(null);

let leaving = new AbortController();

/** Resolves to whether the model is there. */
export async function downloadModel(model: string): Promise<boolean> {
  const asked = client.peek();
  if (!asked || download.peek()) return false;
  leaving = new AbortController();
  const { signal } = leaving;
  downloadProblem.value = null;
  download.value = { model, file: "", done: 0, total: 0 };
  try {
    await asked.models.pull(model, {
      signal,
      progress: (event) => {
        download.value = event;
      },
    });
    await refreshModels();
    return true;
  } catch (error) {
    const isLeft = signal.aborted || asked.state === "closed";
    if (!isLeft) downloadProblem.value = messageOf(error);
    return false;
  } finally {
    download.value = null;
  }
}

/** Ends the download; what has come is kept for the next one. */
export function cancelDownload(): void {
  leaving.abort();
}
