// The demo page: a stock socket.io-client in the chat plugin's lobby. It must use only public events.

const NAMESPACE = "/chat";
const TYPING_SHOWN_MS = 3000;
const TYPING_SENT_EVERY_MS = 2000;
const ANSWER_WITHIN_MS = 5000;
const NOTICE_SHOWN_MS = 6000;
const REJOIN_AFTER_MS = 250;
// A user becomes a participant by a message on the bus, which may arrive after the connection.
const JOIN_ATTEMPTS = 20;
const HISTORY_PAGE = 50;
const GAP_PAGE = 100;
// Messages of one user within this time are grouped under one name.
const TOGETHER_MS = 3 * 60 * 1000;

const at = (id) => document.getElementById(id);
const door = at("door"), room = at("room"), list = at("messages"), draft = at("message");

const me = { name: "", userId: null, chatId: null };
const messages = new Map(); // id → { message, node }
const members = new Map(); // userId → { name, here }
const typists = new Map(); // userId → { name, timer }
let socket = null;
let joined = false;
let online = 0;
let earlierBefore = null;
let newest = null; // the highest id of a received message
let gapAfter = null; // the newest id before an outage, until the gap is filled

// --- Login -------------------------------------------------------------------------------------------------------------------

at("name").value = sessionStorage.getItem("name") ?? "";

door.addEventListener("submit", async (event) => {
  event.preventDefault();
  const name = at("name").value.trim();
  if (!name) return;
  me.name = name;
  const first = await enter().catch((error) => { at("door-notice").textContent = error.message; });
  if (!first) return;
  sessionStorage.setItem("name", name);
  door.hidden = true;
  room.hidden = false;
  connect(first);
  draft.focus();
});

/** Becomes a participant of the lobby. Resolves to the `auth` of the connection: a token. */
async function enter() {
  const response = await fetch("/demo/enter", {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ name: me.name }),
  }).catch(() => { throw new Error("The server does not answer."); });
  const body = await response.json().catch(() => ({}));
  if (!response.ok) throw new Error(body.detail ?? body.title ?? "The server refused the login.");
  me.userId = body.userId;
  me.chatId = body.chatId;
  return { token: body.token };
}

function connect(first) {
  show("connecting", "Connecting…");
  socket = io(NAMESPACE, {
    reconnectionDelay: 250,
    reconnectionDelayMax: 2000,
    // Called for every connection, so that a restarted server gets a new login. Without a token the server refuses the
    // connection, and `connect_error` retries.
    auth: (answer) => {
      const login = first ? Promise.resolve(first) : enter();
      first = null;
      login.then(answer, () => answer({}));
    },
  });
  socket.on("connect", () => join(JOIN_ATTEMPTS));
  socket.on("disconnect", (reason) => {
    setJoined(false);
    show("reconnecting", "Reconnecting…");
    // The stock client does not reconnect after a disconnect by the server.
    if (reason === "io server disconnect") reconnectSoon();
  });
  socket.on("connect_error", (error) => {
    setJoined(false);
    if (socket.active) return show("reconnecting", "Reconnecting…");
    show("refused", error.message);
    reconnectSoon();
  });
  socket.on("chat:message", (message) => { add(message, true); setTyping(message.userId, null); });
  socket.on("chat:typing", ({ userId, userName }) => setTyping(userId, userName));
  socket.on("user:joined", ({ userId, name }) => userJoined(userId, name));
  socket.on("user:left", ({ userId }) => userLeft(userId));
  socket.on("error", (refusal) => notice(refusal));
}

function reconnectSoon() {
  setTimeout(() => socket.connect(), 1000);
}

async function join(attempts) {
  if (!socket.recovered) gapAfter ??= newest;
  const reply = await ask("chat:join", { chatId: me.chatId });
  if (reply === null) return;
  if (reply.error) {
    if (reply.error.message === "Not authorized" && attempts > 1) return setTimeout(() => socket.connected && join(attempts - 1), REJOIN_AFTER_MS);
    show("refused", reply.error.message);
    return notice(reply.error);
  }
  online = reply.onlineCount;
  members.clear();
  for (const { userId, name } of reply.participants) members.set(userId, { name, here: false });
  members.set(me.userId, { name: me.name, here: true });
  showMembers();
  setJoined(true);
  show("connected", "Connected");
  notice(null);
  await catchUp();
}

/** The acknowledgement of an event: its reply, `{error}`, or null if the connection ended first. */
async function ask(event, payload) {
  const asked = socket.id;
  try {
    return await socket.timeout(ANSWER_WITHIN_MS).emitWithAck(event, payload);
  } catch {
    if (socket.id !== asked) return null;
    return { error: { code: "unavailable", message: "The server does not answer." } };
  }
}

function setJoined(value) {
  joined = value;
  at("send").disabled = !joined;
}

function show(state, text) {
  const line = document.querySelector(".state");
  line.dataset.state = state;
  line.textContent = text;
}

// A closed page leaves the chat; a page that lost its network reconnects instead.
addEventListener("pagehide", () => {
  if (joined) socket.emit("chat:leave", { chatId: me.chatId });
});

// --- Messages ----------------------------------------------------------------------------------------------------------------

/** Reads the newest messages at first, and the missed ones after an outage. A recovered socket has missed none. */
async function catchUp() {
  if (gapAfter !== null ? await fillGap() : socket.recovered && newest !== null) return;
  const reply = await ask("chat:history", { chatId: me.chatId, limit: HISTORY_PAGE });
  if (!reply || reply.error) return reply && notice(reply.error);
  reply.messages.forEach((message) => add(message, false));
  setEarlier(reply.nextBefore);
  toBottom();
}

/** Reads the messages after the last one before the outage. Resolves to false if the history no longer has that one. */
async function fillGap() {
  let missed = 0;
  let after = gapAfter;
  while (after) {
    const reply = await ask("chat:history", { chatId: me.chatId, after, limit: GAP_PAGE });
    if (reply?.error?.code === "invalid") break;
    if (!reply || reply.error) return notice(reply?.error ?? null), true;
    for (const message of reply.messages) if (add(message, false) && message.userId !== me.userId) missed += 1;
    after = reply.nextAfter;
  }
  gapAfter = null;
  if (missed) notice({ message: `${missed} ${missed === 1 ? "message" : "messages"} while you were away` });
  return !after;
}

at("earlier").addEventListener("click", async () => {
  const reply = await ask("chat:history", { chatId: me.chatId, before: earlierBefore, limit: HISTORY_PAGE });
  if (!reply || reply.error) return reply && notice(reply.error);
  const fromBottom = list.scrollHeight - list.scrollTop;
  reply.messages.forEach((message) => add(message, false));
  setEarlier(reply.nextBefore);
  list.scrollTop = list.scrollHeight - fromBottom;
});

function setEarlier(before) {
  earlierBefore = before ?? null;
  at("earlier").hidden = !earlierBefore;
}

/** Inserts a message by time. Returns whether it was not shown yet. */
function add(message, live) {
  if (messages.has(message.id)) return false;
  if (newest === null || message.id > newest) newest = message.id;
  const stay = live && list.scrollHeight - list.scrollTop - list.clientHeight > 120 && message.userId !== me.userId;
  const node = draw(message);
  messages.set(message.id, { message, node });
  // Ids sort by time. Most messages are new, so the search begins at the end.
  let after = list.lastElementChild;
  while (after && after.dataset.id > message.id) after = after.previousElementSibling;
  list.insertBefore(node, after ? after.nextElementSibling : list.firstElementChild);
  for (const changed of [node, node.nextElementSibling]) if (changed) changed.classList.toggle("more", continuesGroup(changed));
  if (live) markOnline(message);
  if (!stay) toBottom();
  return true;
}

function continuesGroup(node) {
  const previous = messages.get(node.previousElementSibling?.dataset.id)?.message;
  const { message } = messages.get(node.dataset.id);
  return previous?.userId === message.userId && Date.parse(message.createdAt) - Date.parse(previous.createdAt) < TOGETHER_MS;
}

function draw(message) {
  const name = message.user?.name ?? message.userId;
  const node = element("li", message.userId === me.userId ? "mine" : "");
  node.dataset.id = message.id;
  const time = element("time", "", new Date(message.createdAt).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" }));
  time.dateTime = message.createdAt;
  const who = element("div", "who", name);
  who.append(time);
  const content = element("div", "content");
  content.append(safe(message.content));
  const body = element("div", "body");
  body.append(who, content);
  node.append(face(message.userId, name), body);
  return node;
}

const FORMATTING = new Set(["A", "B", "BLOCKQUOTE", "BR", "CODE", "DEL", "EM", "I", "LI", "OL", "P", "PRE", "S", "STRONG", "U", "UL"]);

/**
 * The server sends sanitized HTML. It is sanitized again, so that this page does not depend on a plugin's correctness: it is parsed
 * in a document that runs and loads nothing, and rebuilt from formatting elements without attributes except a link's address.
 * Other elements are replaced by their text.
 */
function safe(html) {
  const copy = (from, to) => {
    for (const child of from.childNodes) {
      if (child.nodeType === Node.TEXT_NODE) to.append(child.data);
      else if (FORMATTING.has(child.nodeName)) to.append(copy(child, formatted(child)));
      else if (child.nodeType === Node.ELEMENT_NODE && !["SCRIPT", "STYLE", "TEMPLATE"].includes(child.nodeName)) copy(child, to);
    }
    return to;
  };
  return copy(new DOMParser().parseFromString(String(html), "text/html").body, document.createDocumentFragment());
}

function formatted(source) {
  const copy = document.createElement(source.nodeName);
  if (source.nodeName === "A" && /^(https?|mailto):/i.test(source.getAttribute("href") ?? "")) {
    copy.href = source.getAttribute("href");
    copy.target = "_blank";
    copy.rel = "noopener noreferrer nofollow";
  }
  return copy;
}

at("compose").addEventListener("submit", async (event) => {
  event.preventDefault();
  const content = draft.value;
  if (!joined || !content.trim()) return;
  draft.value = "";
  typingSentAt = 0;
  draft.focus();
  const reply = await ask("chat:message", { chatId: me.chatId, content });
  if (reply && !reply.error) return notice(null);
  // The message may be stored or lost; the user decides whether to send it again.
  if (!draft.value) draft.value = content;
  notice(reply?.error ?? { message: "The connection broke. Check whether your message arrived before you send it again." });
});

draft.addEventListener("keydown", (event) => {
  // Enter also confirms a word in an input method.
  if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  at("compose").requestSubmit();
});

function toBottom() {
  list.scrollTop = list.scrollHeight;
}

// --- Members ------------------------------------------------------------------------------------------------------------------

function userJoined(userId, name) {
  const known = members.get(userId);
  if (!known?.here && userId !== me.userId) online += 1;
  members.set(userId, { name: name ?? known?.name ?? userId, here: true });
  showMembers();
}

/** The author of a message is online, and is counted already. */
function markOnline({ userId, user }) {
  if (members.get(userId)?.here) return;
  members.set(userId, { name: user?.name ?? userId, here: true });
  showMembers();
}

function userLeft(userId) {
  if (userId === me.userId) return;
  if (members.delete(userId)) online = Math.max(1, online - 1);
  setTyping(userId, null);
  showMembers();
}

function showMembers() {
  at("online").textContent = `${online} online`;
  const people = [...members].sort(([, a], [, b]) => b.here - a.here || a.name.localeCompare(b.name));
  at("members").replaceChildren(...people.map(([userId, { name, here }]) => {
    const line = element("li", here ? "here" : "");
    line.append(face(userId, name), element("span", "", userId === me.userId ? `${name} (you)` : name));
    return line;
  }));
}

function face(userId, name) {
  const hue = [...userId].reduce((sum, letter) => (sum * 31 + letter.codePointAt(0)) % 8, 0);
  const node = element("span", `face hue-${hue}`, [...name][0]?.toUpperCase() ?? "?");
  node.setAttribute("aria-hidden", "true");
  return node;
}

let typingSentAt = 0;
draft.addEventListener("input", () => {
  if (!joined || !draft.value || Date.now() - typingSentAt < TYPING_SENT_EVERY_MS) return;
  typingSentAt = Date.now();
  socket.emit("chat:typing", { chatId: me.chatId });
});

function setTyping(userId, name) {
  clearTimeout(typists.get(userId)?.timer);
  typists.delete(userId);
  if (name) typists.set(userId, { name, timer: setTimeout(() => setTyping(userId, null), TYPING_SHOWN_MS) });
  const names = [...typists.values()].map((typist) => typist.name);
  at("typing").textContent = names.length > 3 ? "Several people are typing…"
    : names.length > 1 ? `${names.slice(0, -1).join(", ")} and ${names.at(-1)} are typing…`
    : names.length ? `${names[0]} is typing…` : "";
}

// --- Helpers -----------------------------------------------------------------------------------------------------------------

let noticeTimer;
/** Shows a refusal for a moment; null clears it. */
function notice(refusal) {
  clearTimeout(noticeTimer);
  const wait = refusal?.retryAfterMs ? ` Try again in ${Math.ceil(refusal.retryAfterMs / 1000)} s.` : "";
  at("notice").textContent = refusal ? refusal.message + wait : "";
  if (refusal) noticeTimer = setTimeout(() => notice(null), NOTICE_SHOWN_MS);
}

function element(tag, className, text) {
  const node = document.createElement(tag);
  if (className) node.className = className;
  if (text !== undefined) node.textContent = text;
  return node;
}
