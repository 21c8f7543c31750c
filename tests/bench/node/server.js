// The same chat on Socket.IO for Node, tuned as its own guide recommends: no compression, websocket only, and the handshake's
// request released. It must never do less than the chat requires.
"use strict";

const { randomUUID } = require("node:crypto");
const { createServer } = require("node:http");
const jwt = require("jsonwebtoken");
const { Server } = require("socket.io");

const [address, port] = process.argv.slice(2);
const secret = process.env.JWT_SECRET;
const MESSAGE_LIMIT = 2000;
const INVALID = { error: { code: "invalid", message: "Invalid message" } };

const http = createServer((request, response) => {
  response.writeHead(request.url === "/health" ? 200 : 404, { "content-type": "application/json" });
  response.end("{}");
});

const io = new Server(http, {
  transports: ["websocket"],
  perMessageDeflate: false,
  httpCompression: false,
  serveClient: false,
});

// The guide's advice for memory: otherwise every session keeps its first HTTP request.
io.engine.on("connection", (raw) => {
  raw.request = null;
});

io.use((socket, next) => {
  const token = socket.handshake.auth.token;
  if (!token) return next(new Error("Authentication error"));
  try {
    socket.data.user = jwt.verify(token, secret, { algorithms: ["HS256"] });
  } catch {
    return next(new Error("Invalid token"));
  }
  next();
});

io.on("connection", (socket) => {
  const userId = socket.data.user.sub;
  socket.on("chat:join", ({ videoId }, ack) => {
    socket.join(`chat:${videoId}`);
    ack?.({});
  });
  socket.on("chat:message", ({ videoId, message }, ack) => {
    const text = typeof message === "string" ? message.trim() : "";
    if (text.length === 0 || text.length > MESSAGE_LIMIT) return ack?.(INVALID);
    const said = { id: randomUUID(), videoId, userId, message: text, timestamp: Date.now() };
    io.to(`chat:${videoId}`).emit("chat:message", said);
    ack?.({});
  });
});

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
