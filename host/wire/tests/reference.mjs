// The reference server on Node, with the handler of the tests. Its argument is the folder that contains `socket.io`. It prints its
// port when it listens.
import { createServer } from "node:http";
import { createRequire } from "node:module";

const { Server } = createRequire(`${process.argv[2]}/`)("socket.io");
const http = createServer();
const io = new Server(http, { pingInterval: 25000, pingTimeout: 20000, maxHttpBufferSize: 1000, connectTimeout: 1000 });
const serve = (socket) => {
  socket.on("message", (...args) => socket.emit("message-back", ...args));
  socket.on("message-with-ack", (...args) => args.pop()(...args));
};
io.on("connection", serve);
io.of("/custom").on("connection", serve);
http.listen(0, "127.0.0.1", () => console.log(http.address().port));
