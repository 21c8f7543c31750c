// Who is in, and what is told: the token opens the door, then one event a second carries every figure.
import { Plots } from "/dashboard/plots.js";
import { Plugins, shown } from "/dashboard/plugins.js";
import { Tap } from "/dashboard/tap.js";

const KEPT = "hubbub-admin-token";
const $ = (id) => document.getElementById(id);
const TILES = ["connections", "sockets", "rooms", "eventsPerSecond", "deliveriesPerSecond"];

let socket;
let plots;
let plugins;
let tap;

function state(name, text) {
  $("state").dataset.state = name;
  $("state").textContent = text;
}

function enter(token) {
  state("away", "Entering");
  socket = io("/figures", { auth: { token }, transports: ["websocket", "polling"], tryAllTransports: true });
  socket.on("connect", () => inside(token));
  socket.on("connect_error", (error) => {
    // `active` means that the client will try again by itself: the server is away, not saying no.
    if (socket.active) state("away-again", "The server does not answer");
    else leave(shown(error.message));
  });
  socket.on("disconnect", () => state("away-again", "Reconnecting"));
  socket.on("figures", (figures) => show(shown(figures)));
}

function inside(token) {
  sessionStorage.setItem(KEPT, token);
  state("live", "Live");
  $("door").hidden = true;
  $("inside").hidden = $("leave").hidden = false;
  plots ??= new Plots({ rates: $("plot-rates"), p50: $("plot-p50"), p99: $("plot-p99") });
  plugins ??= new Plugins(token, { leave });
  tap ??= new Tap(token);
}

/** Out again: nothing that was shown stays. */
function leave(why = "") {
  socket?.disconnect();
  sessionStorage.removeItem(KEPT);
  plots?.end();
  plugins?.end();
  tap?.end();
  plots = plugins = tap = undefined;
  for (const id of [...TILES, "memoryBytes"]) $(id).textContent = "–";
  $("inside").hidden = $("leave").hidden = true;
  $("door").hidden = false;
  $("door-problem").textContent = why;
  $("token").value = "";
  $("token").focus();
  state("away", "Not in");
}

function show(figures) {
  if (!plots) return;
  for (const id of TILES) $(id).textContent = figures[id].toLocaleString("en");
  $("memoryBytes").textContent = figures.memoryBytes ? `${(figures.memoryBytes / 2 ** 20).toFixed(0)} MiB` : "–";
  figures.plugins.sort((a, b) => a.name.localeCompare(b.name));
  plots.add(figures);
  plugins.show(figures);
}

$("door").addEventListener("submit", (event) => {
  event.preventDefault();
  $("door-problem").textContent = "";
  socket?.disconnect();
  enter($("token").value);
});
$("leave").addEventListener("click", () => leave());

const kept = sessionStorage.getItem(KEPT);
if (kept) enter(kept);
