// The chat on Socket.IO for Node, tuned as its own guide recommends: no compression, websocket only, and the handshake's request
// released.
"use strict";

const { createServer } = require("node:http");
const jwt = require("jsonwebtoken");
const { Server } = require("socket.io");
const chat = require("../chat.js");

const [address, port] = process.argv.slice(2);

const http = createServer((request, response) => {
  response.writeHead(request.url === "/health" ? 200 : 404, { "content-type": "application/json" });
  response.end("{}");
});

const io = new Server(http, {
  transports: ["websocket"],
  perMessageDeflate: false,
  httpCompression: false,
  serveClient: false,
  // With the option's own defaults: 2 minutes, and no check of the token when a client comes back.
  ...(process.env.RECOVERY ? { connectionStateRecovery: {} } : {}),
});
chat(io, jwt, process.env.JWT_SECRET);

// One of several nodes: its messages reach the others through Redis.
async function cluster(url) {
  const { createClient } = require("redis");
  const { createAdapter } = require("@socket.io/redis-adapter");
  const [sends, hears] = [createClient({ url }), createClient({ url })];
  await Promise.all([sends.connect(), hears.connect()]);
  io.adapter(createAdapter(sends, hears));
}

const ready = process.env.REDIS_URL ? cluster(process.env.REDIS_URL) : Promise.resolve();
ready.then(() => http.listen(Number(port), address));
// The bench holds our standard input, so this server ends when the bench ends, in whatever way.
process.stdin.resume().on("end", () => process.exit(0));
