// The chat of the rivals in JavaScript, the same for every engine. It must never do less than the chat requires.
"use strict";

const { randomUUID } = require("node:crypto");

const MESSAGE_LIMIT = 2000;
const INVALID = { error: { code: "invalid", message: "Invalid message" } };

// `jwt` is the jsonwebtoken of the server's own packages.
module.exports = function chat(io, jwt, secret) {
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
};
