// Code that the types must reject: each line after this one is a different mistake, and must not compile.
import type { NamespaceSocket } from "./contract.js";
declare const socket: NamespaceSocket<"/chat">;
socket.emit("chat:join", { chat: "c1" });
socket.emit("chat:message", { chatId: "c1", content: 7 }, () => {});
void socket.emitWithAck("chat:join", { chatId: 1 });
void socket.timeout(1000).emitWithAck("chat:jion", { chatId: "c1" });
socket.on("chat:message", (message) => message.text);
socket.emit("chat:join", { chatId: "c1" }, (reply) => reply.onlineCount);
