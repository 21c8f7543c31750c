// One stock socket.io-client in one namespace. Reads commands and writes what it saw, one JSON text per line. Must use only the
// client's public API.
import { createInterface } from "node:readline";
import { io } from "socket.io-client";

const report = (saw) => process.stdout.write(`${JSON.stringify(saw)}\n`);
let socket, shown, retries;

function connect({ url, namespace, auth, transports, options }) {
  shown = auth ?? {};
  retries = options?.retries;
  socket = io(url + (namespace === "/" ? "" : namespace), { auth: (show) => show(shown), transports, forceNew: true, reconnectionDelay: 50, reconnectionDelayMax: 200, ...options });
  socket.on("connect", () => {
    report({ saw: "connect", id: socket.id, recovered: socket.recovered });
    const { engine } = socket.io;
    report({ saw: "transport", name: engine.transport.name });
    engine.once("upgrade", (transport) => report({ saw: "transport", name: transport.name }));
  });
  socket.on("connect_error", (error) => {
    // `active` means that the client will retry by itself: the server is unreachable and has not refused it.
    if (!socket.active) report({ saw: "refused", message: error.message });
  });
  socket.on("disconnect", (reason) => report({ saw: "disconnect", reason }));
  socket.onAny((...args) => report({ saw: "event", args }));
}

const steps = {
  connect,
  // Used from the next connect on.
  auth: ({ auth }) => (shown = auth),
  emit: ({ args, ack }) =>
    ack === undefined
      ? socket.emit(...args)
      : // With `retries` the first argument is an error, or null.
        socket.emit(...args, (...answer) => report({ saw: "ack", ack, args: retries && !answer[0] ? answer.slice(1) : answer })),
  disconnect: () => socket.disconnect(),
};

createInterface({ input: process.stdin })
  .on("line", (line) => {
    const step = JSON.parse(line);
    steps[step.do](step);
  })
  .on("close", () => process.exit(0));
