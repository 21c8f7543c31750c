// The table of plugins and the operator's actions on them. Errors are shown in the server's own words.

const $ = (id) => document.getElementById(id);
const POLL_MS = 5000;
// Control characters, line separators and bidirectional marks: the same set that the command line escapes.
const COMMANDS = /[\u0000-\u001f\u007f-\u009f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]/g;

/** Text from the server, with control characters escaped. */
export function shown(data) {
  if (typeof data === "string") return data.replace(COMMANDS, (c) => `\\u${c.charCodeAt(0).toString(16).padStart(4, "0")}`);
  if (Array.isArray(data)) return data.map(shown);
  if (data && typeof data === "object") return Object.fromEntries(Object.entries(data).map(([name, value]) => [shown(name), shown(value)]));
  return data;
}

const ACTS = {
  promote: { label: "Promote", sure: (name) => [`Promote the canary of ${name}?`, "It serves everyone from now on."] },
  rollback: { label: "Roll back", sure: (name) => [`Roll ${name} back?`, "This ends a canary or a shadow; without one, the previous release becomes active again."] },
  disable: { label: "Disable", sure: (name) => [`Disable ${name}?`, "Until it is enabled, its events are answered with “unavailable” and its messages wait."] },
  enable: { label: "Enable" },
};

export class Plugins {
  constructor(token, { logOut }) {
    this.token = token;
    this.logOut = logOut;
    this.listed = new Map();
    this.open = new Set();
    this.status = { plugins: [] };
    this.timer = setInterval(() => this.look(), POLL_MS);
    this.ended = new AbortController();
    const on = (id, event, act) => $(id).addEventListener(event, act, { signal: this.ended.signal });
    on("deploy-form", "submit", (event) => this.deploy(event));
    on("deploy-new", "click", () => askDeploy(""));
    $("deploy").querySelector("[data-close]").addEventListener("click", () => $("deploy").close(), { signal: this.ended.signal });
  }

  end() {
    clearInterval(this.timer);
    this.ended.abort();
    for (const id of ["deploy", "sure"]) $(id).close();
    $("plugins").replaceChildren();
    $("problem").textContent = "";
  }

  async call(method, path, body) {
    const headers = { authorization: `Bearer ${this.token}` };
    const answer = await fetch(`/admin/plugins${path}`, { method, headers, body, signal: this.ended.signal });
    if (answer.status === 401) this.logOut(shown((await answer.json()).detail));
    if (answer.ok) return shown(await answer.json());
    // A proxy on the way may answer without a problem document.
    const problem = await answer.json().catch(() => ({ title: `HTTP ${answer.status}`, detail: answer.statusText }));
    throw new Error(shown(`${problem.title}: ${problem.detail}`));
  }

  /** Fetches histories and verdicts, which the live metrics do not include. */
  async look() {
    try {
      const { plugins } = await this.call("GET", "");
      this.listed = new Map(plugins.map((plugin) => [plugin.name, plugin]));
      this.draw();
    } catch {
      // The connection state is shown at the top of the page, and the next request follows soon.
    }
  }

  show(status) {
    const changed = status.changes !== this.status.changes;
    this.status = status;
    this.draw();
    if (changed) this.look();
  }

  async act(name, act) {
    const { label, sure } = ACTS[act];
    if (sure && !(await isSure(label, ...sure(name)))) return;
    try {
      await this.call("POST", `/${encodeURIComponent(name)}/${act}`);
      $("problem").textContent = "";
    } catch (error) {
      $("problem").textContent = error.message;
    }
    await this.look();
  }

  async deploy(event) {
    event.preventDefault();
    const [name, percent, file] = [$("deploy-name").value.trim(), $("deploy-percent").value, $("deploy-file").files[0]];
    const how = $("deploy-how").value;
    $("deploy-problem").textContent = "";
    $("deploy-go").disabled = true;
    try {
      await this.call("POST", `/${encodeURIComponent(name)}/deploy${percent ? `?${how}=${percent}` : ""}`, file);
      $("deploy").close();
    } catch (error) {
      $("deploy-problem").textContent = error.message;
    }
    $("deploy-go").disabled = false;
    await this.look();
  }

  /** Rows are reused and only their cells change, so that a button under the pointer stays in place. */
  draw() {
    const rows = [];
    for (const plugin of this.status.plugins) {
      const { name } = plugin;
      const listed = this.listed.get(name) ?? {};
      const row = reuse(`row-${name}`, () => this.row(name));
      fill(row, plugin, name, plugin.state);
      row.act.disable.hidden = plugin.state === "disabled";
      row.act.enable.hidden = plugin.state !== "disabled" && !plugin.quarantined;
      rows.push(row);
      for (const one of plugin.quarantined ?? []) rows.push(quarantined(name, one));
      if (plugin.canary) {
        const trial = reuse(`trial-${name}`, () => this.trial(name));
        fill(trial, plugin.canary, listed.canary?.verdict ?? "", "canary", `canary ${plugin.canary.percent} %`);
        rows.push(trial);
      }
      if (listed.shadow) {
        const { percent, counters } = listed.shadow;
        const shadow = reuse(`shadow-${name}`, () => this.shadow(name));
        fill(shadow, listed.shadow, compared(counters), "shadow", `shadow ${percent} %`);
        rows.push(shadow);
      }
      if (this.open.has(name)) rows.push(past(name, listed.releases ?? []));
    }
    place($("plugins"), rows);
  }

  row(name) {
    const row = cells(`plugin-${name}`);
    row.act = {};
    const add = (act, label, run) => {
      row.act[act] = button(label, `${act}-${name}`, run);
      row.acts.append(row.act[act]);
    };
    add("history", "History", () => {
      if (!this.open.delete(name)) this.open.add(name);
      this.draw();
    });
    add("deploy", "Deploy…", () => askDeploy(name));
    for (const act of ["rollback", "disable", "enable"]) add(act, ACTS[act].label, () => this.act(name, act));
    return row;
  }

  trial(name) {
    const row = cells(`canary-${name}`);
    row.classList.add("trial");
    row.acts.append(button("Promote", `promote-${name}`, () => this.act(name, "promote")));
    row.acts.append(button("End it", `end-${name}`, () => this.act(name, "rollback")));
    return row;
  }

  shadow(name) {
    const row = cells(`shadow-${name}`);
    row.classList.add("trial");
    row.acts.append(button("End it", `end-shadow-${name}`, () => this.act(name, "rollback")));
    return row;
  }
}

/** A summary of how a shadow differs from the active release. */
function compared({ calls, differing, traps, dropped, cpuRatio }) {
  const parts = [`${differing} of ${calls} calls differ`];
  if (traps) parts.push(`${traps} trapped`);
  if (dropped) parts.push(`${dropped} not compared`);
  if (cpuRatio) parts.push(`CPU × ${cpuRatio}`);
  return parts.join(", ");
}

/** Labels cells with their columns' names, for narrow windows, which show no table head. */
export function label(row, body, from, to) {
  const heads = $(body).closest("table").tHead.rows[0].cells;
  for (let at = from; at < to; at += 1) row.cells[at].dataset.label = heads[at].textContent;
}

/** Puts the rows into the body in this order, and moves only those out of place. */
function place(body, rows) {
  rows.forEach((row, at) => {
    if (body.children[at] !== row) body.insertBefore(row, body.children[at] ?? null);
  });
  while (body.children.length > rows.length) body.lastChild.remove();
}

function reuse(id, make) {
  const found = document.getElementById(id);
  if (found) return found;
  const made = make();
  made.id = id;
  return made;
}

function cells(testid) {
  const row = document.createElement("tr");
  row.dataset.testid = testid;
  for (let at = 0; at < 12; at += 1) row.insertCell().className = at > 2 && at < 11 ? "n" : "";
  label(row, "plugins", 1, 11);
  row.acts = row.cells[11];
  row.acts.className = "acts";
  return row;
}

function fill(row, release, title, state, tagged = state) {
  const decimal = (value, unit) => (value ? `${value.toFixed(2)} ${unit}` : "–");
  const number = (value) => value?.toLocaleString("en") ?? "–";
  const texts = [
    title, null, null, number(release.events), number(release.eventsPerSecond), number(release.errors),
    decimal(release.p50Ms, "ms"), decimal(release.p99Ms, "ms"), release.meanMicros ? `${release.meanMicros.toFixed(1)} µs` : "–",
    release.idle === undefined ? "–" : `${release.busy} / ${release.idle}`, decimal((release.memoryBytes ?? 0) / 2 ** 20, "MiB"),
  ];
  texts.forEach((text, at) => {
    if (text !== null && row.cells[at].textContent !== text) row.cells[at].textContent = text;
  });
  row.cells[5].classList.toggle("some", release.errors > 0);
  const seen = `${release.digest} ${tagged}`;
  if (row.dataset.seen === seen) return;
  row.dataset.seen = seen;
  row.cells[1].replaceChildren(release.version ? `${release.version} ` : "–", release.digest ? digest(release.digest) : "");
  row.cells[2].replaceChildren(tag(state, tagged));
}

/** A row of one cell under a plugin's own. */
function under(id, testid = id) {
  return reuse(id, () => {
    const made = document.createElement("tr");
    made.className = "past";
    made.dataset.testid = testid;
    made.insertCell().colSpan = 12;
    return made;
  });
}

/** A source of calls that is quarantined until an operator lifts it, and the cause. */
function quarantined(name, { source, cause }) {
  const row = under(`quarantined-${name}-${source}`, `quarantined-${name}`);
  row.classList.add("stopped");
  if (row.dataset.cause !== cause) {
    row.dataset.cause = cause;
    row.cells[0].replaceChildren(tag("quarantined", `quarantined: ${source}`), ` ${cause}`);
  }
  return row;
}

function past(name, releases) {
  const row = under(`past-${name}`);
  const list = document.createElement("ul");
  for (const release of releases.toReversed()) {
    const line = document.createElement("li");
    const at = document.createElement("time");
    at.dateTime = release.at;
    at.textContent = new Date(release.at).toLocaleString();
    line.append(tag(release.state, release.state.replace("-", " ")), release.version, digest(release.digest), at, release.why ?? "");
    list.append(line);
  }
  row.cells[0].replaceChildren(releases.length ? list : "No history.");
  return row;
}

function tag(state, text) {
  const tag = document.createElement("span");
  tag.className = "tag";
  tag.dataset.state = state;
  tag.textContent = text;
  return tag;
}

function digest(text) {
  const digest = document.createElement("span");
  digest.className = "digest";
  digest.title = text;
  digest.textContent = text.slice(0, 10);
  return digest;
}

function button(label, testid, run) {
  const made = document.createElement("button");
  made.type = "button";
  made.className = "plain";
  made.dataset.testid = testid;
  made.textContent = label;
  made.addEventListener("click", run);
  return made;
}

function askDeploy(name) {
  $("deploy-form").reset();
  $("deploy-problem").textContent = "";
  $("deploy-name").value = name;
  $("deploy-name").readOnly = name !== "";
  $("deploy").showModal();
}

function isSure(label, title, text) {
  const dialog = $("sure");
  [$("sure-title").textContent, $("sure-text").textContent, $("sure-yes").textContent] = [title, text, label];
  dialog.returnValue = "";
  dialog.showModal();
  return new Promise((answer) => dialog.addEventListener("close", () => answer(dialog.returnValue === "yes"), { once: true }));
}
