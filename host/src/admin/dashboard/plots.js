// Line charts of the last two minutes. Older values are dropped.

const SECONDS = 120;
const HEIGHT = 170;
const DARK = matchMedia("(prefers-color-scheme: dark)");
const LINES = {
  light: ["#4a3fd6", "#c2410c", "#14804a", "#b0217f", "#0e7490", "#8a6a00", "#6b4fa0", "#475569"],
  dark: ["#9d95ff", "#ff9b5e", "#4fd08b", "#ff85c8", "#5cc8e0", "#e6c34a", "#c3a6f5", "#a8b3c4"],
};

export class Plots {
  constructor(places) {
    this.places = places;
    this.rows = [];
    this.plots = {};
    this.redraw = () => this.rebuild();
    DARK.addEventListener("change", this.redraw);
    addEventListener("resize", this.redraw);
  }

  end() {
    DARK.removeEventListener("change", this.redraw);
    removeEventListener("resize", this.redraw);
    for (const plot of Object.values(this.plots)) plot.destroy();
  }

  add(status) {
    const plugins = new Map(status.plugins.map((plugin) => [plugin.name, plugin]));
    this.rows.push({ at: Date.parse(status.at) / 1000, status, plugins });
    const from = this.rows.at(-1).at - SECONDS;
    this.rows = this.rows.filter((row) => row.at >= from);
    const names = [...plugins.keys()].join();
    if (names !== this.names) {
      this.names = names;
      this.rebuild();
    } else {
      for (const [name, plot] of Object.entries(this.plots)) plot.setData(this.data(name));
    }
    // Without a pointer over the chart, the legend shows the newest values.
    for (const plot of Object.values(this.plots)) if (plot.cursor.idx == null) plot.setLegend({ idx: this.rows.length - 1 });
  }

  /** A plugin without events has no percentile: a gap in the line, not a zero. */
  data(name) {
    const times = this.rows.map((row) => row.at);
    const line = (value) => this.rows.map((row) => value(row) ?? null);
    if (name === "rates") {
      return [times, line(({ status }) => status.eventsPerSecond), line(({ status }) => status.deliveriesPerSecond)];
    }
    return [times, ...this.plugins().map((plugin) => line((row) => row.plugins.get(plugin)?.[`${name}Ms`] || null))];
  }

  plugins() {
    return this.names ? this.names.split(",") : [];
  }

  rebuild() {
    for (const [name, place] of Object.entries(this.places)) {
      this.plots[name]?.destroy();
      const lines = name === "rates" ? ["events", "deliveries"] : this.plugins();
      this.plots[name] = new uPlot(options(place, lines, name !== "rates"), this.data(name), place);
    }
  }
}

/** The time of day, short enough for an axis label. */
function clock(seconds) {
  return new Date(seconds * 1000).toLocaleTimeString("en-GB");
}

function options(place, lines, isTime) {
  const dark = DARK.matches;
  const colors = LINES[dark ? "dark" : "light"];
  const axis = {
    stroke: dark ? "#a09eae" : "#625f6b",
    grid: { stroke: dark ? "#2a2a35" : "#edeae4", width: 1 },
    ticks: { show: false },
    font: "11px system-ui, sans-serif",
  };
  const value = (_, v) => (v == null ? "–" : isTime ? v.toFixed(2) : v.toLocaleString("en"));
  return {
    width: place.clientWidth,
    height: HEIGHT,
    cursor: { points: { size: 6 }, sync: { key: "hubbub" }, drag: { x: false, y: false } },
    scales: { x: { range: (_, min, max) => [max - SECONDS, max] }, y: { range: (_, min, max) => [0, Math.max(max * 1.15, isTime ? 0.1 : 5)] } },
    axes: [{ ...axis, size: 28, space: 70, values: (_, times) => times.map(clock) }, { ...axis, size: 46 }],
    legend: { markers: { width: 0, fill: (_, at) => colors[(at - 1) % colors.length] } },
    series: [
      { value: (_, v) => (v == null ? "" : clock(v)), label: "at" },
      ...lines.map((label, at) => ({ label, value, stroke: colors[at % colors.length], width: 1.75, points: { show: false } })),
    ],
  };
}
