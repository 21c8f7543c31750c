// The events of one user or one room, both directions. It shows the newest, and how many records the server dropped.

import { label, shown } from "./plugins.js";

const $ = (id) => document.getElementById(id);
const SHOWN = 200;

export class Tap {
  constructor(token) {
    this.token = token;
    this.ended = new AbortController();
    $("tap").addEventListener("submit", (event) => this.toggle(event), { signal: this.ended.signal });
  }

  end() {
    this.stop("");
    this.ended.abort();
    $("tapped").replaceChildren();
    $("tapped-wide").hidden = true;
  }

  toggle(event) {
    event.preventDefault();
    if (this.socket) this.stop("Stopped");
    else this.listen();
  }

  listen() {
    const auth = { token: this.token };
    for (const key of ["user", "namespace", "room", "tenant"]) {
      const value = $(`tap-${key}`).value.trim();
      if (value) auth[key] = value;
    }
    $("tapped").replaceChildren();
    $("tapped-wide").hidden = false;
    $("tap-go").textContent = "Stop";
    this.socket = io("/tap", { auth, transports: ["websocket", "polling"], tryAllTransports: true });
    this.socket.on("connect", () => this.state("live", "Listening"));
    this.socket.on("connect_error", (error) => {
      if (this.socket?.active) this.state("away-again", "The server does not answer");
      else this.stop(shown(error.message));
    });
    this.socket.on("disconnect", (why) => why === "io client disconnect" || this.state("away-again", "Reconnecting"));
    this.socket.on("tapped", (batch) => this.show(shown(batch)));
  }

  stop(why) {
    this.socket?.disconnect();
    this.socket = undefined;
    $("tap-go").textContent = "Listen";
    this.state("away", why);
  }

  state(name, text) {
    $("tap-state").dataset.state = name;
    $("tap-state").textContent = text;
  }

  show({ records, dropped }) {
    if (!this.socket) return;
    this.state("live", dropped ? `Listening, ${dropped.toLocaleString("en")} dropped` : "Listening");
    $("tapped").prepend(...records.toReversed().map(row));
    while ($("tapped").children.length > SHOWN) $("tapped").lastChild.remove();
  }
}

function row(record) {
  const made = document.createElement("tr");
  made.dataset.way = record.way;
  const micros = (value) => (value === undefined ? "" : `${value.toLocaleString("en")} µs`);
  const to = record.to && `${record.to} (${record.reached.toLocaleString("en")})`;
  const texts = [
    new Date(record.at).toISOString().slice(11, 23), record.way, record.namespace, record.event, record.outcome ?? to,
    record.bytes.toLocaleString("en"), micros(record.tookMicros), micros(record.cpuMicros), record.args ?? "",
  ];
  for (const [at, text] of texts.entries()) {
    const cell = made.insertCell();
    cell.textContent = text;
    if (at > 4 && at < 8) cell.className = "n";
  }
  label(made, "tapped", 0, 8);
  made.lastChild.className = "args";
  made.lastChild.title = record.args ?? "";
  made.cells[4].classList.toggle("some", record.way === "in" && record.outcome !== "ok");
  return made;
}
