// One stock Socket.IO server in Node with the Redis adapter and the Redis emitter. Reads commands and writes results, one JSON
// text per line. A client joins the rooms in its `auth`. Must use only the packages' public API.
import { createServer } from "node:http";
import { createInterface } from "node:readline";
import { createAdapter } from "@socket.io/redis-adapter";
import { Emitter } from "@socket.io/redis-emitter";
import { createClient } from "redis";
import { Server } from "socket.io";

const report = (saw) => process.stdout.write(`${JSON.stringify(saw)}\n`);
const scope = {};

async function start({ redis: url, namespaces }) {
  const connect = async () => {
    // Messages sent while Redis is down are lost, as with Hubbub's own nodes.
    const client = createClient({ url, disableOfflineQueue: true, socket: { reconnectStrategy: 50 } });
    client.on("error", () => {});
    await client.connect();
    return client;
  };
  const [publisher, subscriber, redis] = await Promise.all([connect(), connect(), connect()]);
  const http = createServer();
  const io = new Server(http, { adapter: createAdapter(publisher, subscriber) });
  for (const namespace of namespaces) {
    io.of(namespace).on("connection", (socket) => {
      socket.join(socket.handshake.auth.rooms ?? []);
      socket.on("emit", (room, args, ack) => {
        socket.to(room).emit(...args);
        ack?.({});
      });
      // The answer that ends a round trip, as Hubbub gives it.
      socket.on("nothing:answers:to:this", (_, ack) => ack({ error: { code: "not_found", message: "" } }));
    });
  }
  Object.assign(scope, { io, redis, emitter: new Emitter(redis) });
  http.listen(0, "127.0.0.1", () => report({ port: http.address().port }));
}

// Runs a line of JavaScript with the server `io`, the `emitter` and a `redis` client.
async function run({ code }) {
  try {
    const line = new Function(...Object.keys(scope), `return (async () => { ${code} })()`);
    report({ done: (await line(...Object.values(scope))) ?? null });
  } catch (error) {
    report({ failed: String(error) });
  }
}

const steps = { start, run };

createInterface({ input: process.stdin })
  .on("line", (line) => {
    const step = JSON.parse(line);
    steps[step.do](step);
  })
  .on("close", () => process.exit(0));
