// Checks an AsyncAPI document from standard input against the specification with the official parser. Prints the errors as a JSON
// array; must never access the network.
import { readFileSync } from "node:fs";
import { DiagnosticSeverity, Parser } from "@asyncapi/parser";

const { document, diagnostics } = await new Parser().parse(readFileSync(0, "utf8"));
const errors = diagnostics
  .filter(({ severity }) => severity === DiagnosticSeverity.Error)
  .map(({ code, message, path }) => `${path.join(".")}: ${message} (${code})`);
if (document === undefined && errors.length === 0) errors.push("the parser returned no document");
process.stdout.write(JSON.stringify(errors));
