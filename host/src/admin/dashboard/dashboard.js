// The login with the admin token, then all live metrics from one event a second.
import { Plots } from "/dashboard/plots.js";
import { Plugins, shown } from "/dashboard/plugins.js";
import { Tap } from "/dashboard/tap.js";

const TOKEN_KEY = "hubbub-admin-token";
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

function logIn(token) {
  state("away", "Connecting");
  socket = io("/figures", { auth: { token }, transports: ["websocket", "polling"], tryAllTransports: true });
  socket.on("connect", () => showDashboard(token));
  socket.on("connect_error", (error) => {
    // `active`: the client retries by itself, because the server is unreachable. Otherwise it has refused the token.
    if (socket.active) state("away-again", "The server does not answer");
    else logOut(shown(error.message));
  });
  socket.on("disconnect", () => state("away-again", "Reconnecting"));
  socket.on("figures", (status) => show(shown(status)));
}

function showDashboard(token) {
  sessionStorage.setItem(TOKEN_KEY, token);
  state("live", "Live");
  $("door").hidden = true;
  $("inside").hidden = $("leave").hidden = false;
  plots ??= new Plots({ rates: $("plot-rates"), p50: $("plot-p50"), p99: $("plot-p99") });
  plugins ??= new Plugins(token, { logOut });
  tap ??= new Tap(token);
}

/** Logs out and clears everything on the page. */
function logOut(why = "") {
  socket?.disconnect();
  sessionStorage.removeItem(TOKEN_KEY);
  plots?.end();
  plugins?.end();
  tap?.end();
  plots = plugins = tap = undefined;
  for (const id of [...TILES, "recovered", "memoryBytes"]) $(id).textContent = "–";
  $("recovery").textContent = "";
  $("inside").hidden = $("leave").hidden = true;
  $("door").hidden = false;
  $("door-problem").textContent = why;
  $("token").value = "";
  $("token").focus();
  state("away", "Not logged in");
}

function show(status) {
  if (!plots) return;
  for (const id of TILES) $(id).textContent = status[id].toLocaleString("en");
  showRecovery(status.recovery);
  $("memoryBytes").textContent = status.memoryBytes ? mebibytes(status.memoryBytes, 0) : "–";
  status.plugins.sort((a, b) => a.name.localeCompare(b.name));
  plots.add(status);
  plugins.show(status);
}

/** Clients that lost their connection: those that came back, those that got a new socket, and those that are away. */
function showRecovery({ recovered, refused, away, logBytes }) {
  $("recovered").textContent = recovered.toLocaleString("en");
  const reasons = Object.entries(refused).map(([reason, count]) => `${reason} ${count.toLocaleString("en")}`);
  const parts = [`${away.toLocaleString("en")} away`, `${mebibytes(logBytes, 1)} of events`];
  if (reasons.length > 0) parts.push(`refused: ${reasons.join(", ")}`);
  $("recovery").textContent = parts.join(" · ");
}

function mebibytes(bytes, digits) {
  return `${(bytes / 2 ** 20).toFixed(digits)} MiB`;
}

$("door").addEventListener("submit", (event) => {
  event.preventDefault();
  $("door-problem").textContent = "";
  socket?.disconnect();
  logIn($("token").value);
});
$("leave").addEventListener("click", () => logOut());

const stored = sessionStorage.getItem(TOKEN_KEY);
if (stored) logIn(stored);
