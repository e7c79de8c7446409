/** Copies the client library beside the extension's sources, where a browser finds it. */

import { copyFileSync, existsSync, mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";

const library = join(import.meta.dirname, "../../clients/js/dist");
const vendor = join(import.meta.dirname, "src/vendor");

if (!existsSync(join(library, "tabagent.js"))) {
  throw new Error("build the client first: npm ci && npm run build, in clients/js");
}
mkdirSync(vendor, { recursive: true });
for (const file of ["tabagent.js", "tabagent.js.map"]) {
  copyFileSync(join(library, file), join(vendor, file));
}
writeFileSync(
  join(vendor, "tabagent.d.ts"),
  'export * from "../../../../clients/js/dist/index.js";\n',
);
