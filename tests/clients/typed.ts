// A stock client whose events are typed by `hubbub types`: joins a chat in `/chat`, sends a message, and prints the received data
// as one JSON text. Must never use `any`, or the types would prove nothing.
declare const process: { argv: string[]; stdout: { write(text: string): void } };
declare const console: { error(...told: unknown[]): void };

import { io } from "socket.io-client";
import type { Socket } from "socket.io-client";
import type { ChatClientToServerEvents, ChatServerToClientEvents, NamespaceSocket, Refused } from "./contract.js";

const [url, token, chatId] = process.argv.slice(2);
if (url === undefined || token === undefined || chatId === undefined) throw new Error("usage: typed.js URL TOKEN CHAT");

const socket: NamespaceSocket<"/chat"> = io(`${url}/chat`, { auth: { token }, transports: ["websocket"] });

/** The events alone, as `socket.io-client` has it by itself. */
export const typing = (plain: Socket<ChatServerToClientEvents, ChatClientToServerEvents>, chat: string) =>
  plain.emit("chat:typing", { chatId: chat }).on("error", ({ code, event }) => console.error(code, event));

/** The reply, unless it was refused. */
function granted<Reply extends object>(reply: Reply | Refused): Reply {
  if ("error" in reply) {
    const { code, message } = (reply as Refused).error;
    throw new Error(`${code}: ${message}`);
  }
  return reply as Reply;
}

socket.on("connect_error", (error) => {
  throw error;
});
type Message = Parameters<ChatServerToClientEvents["chat:message"]>[0];
const heard = new Promise<Message>((resolve) => socket.on("chat:message", resolve));

// With a callback, with a promise, with a timeout, and without any acknowledgement.
const joined = granted(await socket.emitWithAck("chat:join", { chatId }));
const online: number = joined.onlineCount;
const names: string[] = joined.participants.map((participant) => participant.name);
socket.emit("chat:typing", { chatId });
granted(await socket.timeout(5000).emitWithAck("chat:message", { chatId, content: "typed" }));
const { user, content, createdAt } = await heard;
const unread = await new Promise<number>((resolve, reject) => {
  socket.emit("chat:read", { chatId }, (reply) => {
    if ("error" in reply) reject(new Error(reply.error.message));
    else resolve(reply.unreadCount);
  });
});
const refused = await socket.emitWithAck("chat:message", { chatId, content: "" });
const code: Refused["error"]["code"] | "done" = "error" in refused && refused.error ? refused.error.code : "done";

process.stdout.write(JSON.stringify({ online, names, author: user.name, content, createdAt, unread, code }));
socket.disconnect();
