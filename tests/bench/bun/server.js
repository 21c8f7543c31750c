// The chat on Socket.IO with Bun's engine, as the engine's guide has it. Bun compresses nothing unless it is asked to.
"use strict";

const { Server: Engine } = require("@socket.io/bun-engine");
const jwt = require("jsonwebtoken");
const { Server } = require("socket.io");
const chat = require("../chat.js");

const [hostname, port] = process.argv.slice(2);

const engine = new Engine({ path: "/socket.io/" });
const io = new Server();
io.bind(engine);
chat(io, jwt, process.env.JWT_SECRET);

// A static route costs the engine's requests nothing.
Bun.serve({ hostname, port: Number(port), ...engine.handler(), routes: { "/health": new Response("{}") } });
// The bench holds our standard input, so this server ends when the bench ends, in whatever way.
process.stdin.resume().on("end", () => process.exit(0));
