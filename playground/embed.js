/** Puts the built page into the server's package; with `--check`, tells whether it is there. */

import { existsSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join, relative } from "node:path";

const built = join(import.meta.dirname, "dist");
const embedded = join(import.meta.dirname, "../server/tabagent/http/static");
const names = readdirSync(built).sort();

/** @param {string} name */
function isFresh(name) {
  const file = join(embedded, name);
  return existsSync(file) && readFileSync(file).equals(readFileSync(join(built, name)));
}

const strays = readdirSync(embedded).filter((name) => !names.includes(name));
const stale = [...strays, ...names.filter((name) => !isFresh(name))];

if (process.argv.includes("--check")) {
  if (stale.length > 0) {
    const place = relative(process.cwd(), embedded);
    console.error(`${place} is not what these sources build (${stale.join(", ")}).`);
    console.error("Run `npm run embed` and commit what it writes.");
    process.exit(1);
  }
} else {
  for (const name of strays) rmSync(join(embedded, name));
  for (const name of names) writeFileSync(join(embedded, name), readFileSync(join(built, name)));
}
