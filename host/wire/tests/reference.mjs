// The reference server on Node, with the handler of the tests. Run with the port and the folder that has `socket.io` in it.
import { createRequire } from "node:module";

const [port, modules] = process.argv.slice(2);
const { Server } = createRequire(`${modules}/`)("socket.io");
const io = new Server(Number(port), { pingInterval: 25000, pingTimeout: 20000, maxHttpBufferSize: 1000, connectTimeout: 1000 });
const serve = (socket) => {
  socket.on("message", (...args) => socket.emit("message-back", ...args));
  socket.on("message-with-ack", (...args) => args.pop()(...args));
};
io.on("connection", serve);
io.of("/custom").on("connection", serve);
console.log("ready");
