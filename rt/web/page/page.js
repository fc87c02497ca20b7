"use strict";
// Shows what rt/web/feed.py tells. All text that comes is put in as text, never as markup.

const at = (id) => document.getElementById(id);
const RETRY_MS = 2000;
const HEIGHT = 104; // of a joint's plot, px

let session = null; // what does not change, from the feed
let ended = "";

// ---- making elements

function element(tag, text = "", className = "") {
  const made = document.createElement(tag);
  made.textContent = text;
  made.className = className;
  return made;
}

function fill(parent, children) {
  parent.replaceChildren(...children);
}

function figures(id, pairs) {
  fill(at(id), pairs.map(([name, value, worth]) => {
    const pair = element("div");
    pair.append(element("dt", name), element("dd", value, worth ? "worth" : ""));
    return pair;
  }));
}

const duration = (ms) =>
  ms === null ? "-" : ms < 1000 ? `${Math.round(ms)} ms` : `${(ms / 1000).toFixed(1)} s`;
const microseconds = (us) => us < 1000 ? `${us.toFixed(0)} µs` : `${(us / 1000).toFixed(2)} ms`;

function say(words, kind) {
  at("doing").textContent = words;
  at("doing").className = `pill ${kind}`;
}

// ---- joints: a small plot each, over the same seconds

const plots = [];
let times = []; // s, of each tick that is drawn
let series = []; // of each joint [measured, commanded], degrees
let chunks = new Map(); // by id, those in the window
let redraw = 0;

function colour(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
}

// Under the lines: where each chunk was tied to the one before, and where it took over.
function drawChunks(plot) {
  const { ctx, bbox } = plot;
  const { control_hz: hz, ticks_per_row: perRow } = session;
  const x = (tick) => plot.valToPos(tick / hz, "x", true);
  ctx.save();
  ctx.beginPath();
  ctx.rect(bbox.left, bbox.top, bbox.width, bbox.height);
  ctx.clip();
  ctx.fillStyle = colour("shade");
  for (const chunk of chunks.values()) {
    chunk.weights.forEach((weight, row) => {
      if (!(weight > 0)) return; // null too
      const from = x(chunk.first_tick + row * perRow);
      ctx.globalAlpha = 0.3 * Math.min(weight, 1);
      ctx.fillRect(from, bbox.top, x(chunk.first_tick + (row + 1) * perRow) - from, bbox.height);
    });
  }
  ctx.globalAlpha = 1;
  ctx.fillStyle = colour("swap");
  for (const chunk of chunks.values()) {
    if (chunk.first_used_tick >= 0) {
      ctx.fillRect(Math.round(x(chunk.first_used_tick)), bbox.top, devicePixelRatio, bbox.height);
    }
  }
  ctx.restore();
}

// A joint that rests is drawn flat: noise is not blown up to the plot's height.
function span(plot, low, high) {
  if (low === null) return [-1, 1];
  const half = Math.max((high - low) * 0.55, 1);
  const middle = (low + high) / 2;
  return [middle - half, middle + half];
}

function makePlots() {
  plots.splice(0).forEach((plot) => plot.destroy());
  const [quiet, edge] = [colour("quiet"), colour("edge")];
  const axis = { stroke: quiet, grid: { stroke: edge, width: 1 }, ticks: { show: false } };
  const font = "10px system-ui, sans-serif";
  session.joints.forEach((name, joint) => {
    const cell = element("div");
    at("joints").append(cell);
    plots.push(new uPlot({
      title: name,
      width: cell.clientWidth || 210,
      height: HEIGHT,
      padding: [4, 6, 0, 0],
      legend: { show: false },
      cursor: { sync: { key: "joints" }, drag: { x: false, y: false } },
      scales: { x: { time: false }, y: { range: span } },
      axes: [
        { ...axis, font, size: 20, space: 60, values: (_, ticks) => ticks.map((s) => `${s} s`) },
        { ...axis, font, size: 38, space: 26 },
      ],
      series: [
        {},
        { stroke: colour("measured"), width: 1.5, points: { show: false } },
        { stroke: colour("commanded"), width: 1, points: { show: false } },
      ],
      hooks: { drawClear: [drawChunks] },
    }, [times, ...series[joint]], cell));
  });
}

function drawPlots() {
  redraw = 0;
  plots.forEach((plot, joint) => plot.setData([times, ...series[joint]]));
}

function resize() {
  plots.forEach((plot) => {
    plot.setSize({ width: plot.root.parentElement.clientWidth, height: HEIGHT });
  });
}

// ---- what the feed tells, by its name

const show = {
  session(told) {
    session = told;
    at("joints").replaceChildren();
    [times, chunks] = [[], new Map()];
    series = told.joints.map(() => [[], []]);
    makePlots();
    at("cameras_section").hidden = told.cameras.length === 0;
    fill(at("cameras"), told.cameras.map((name) => {
      const figure = element("figure");
      const image = document.createElement("img");
      image.alt = `camera ${name}`;
      const caption = element("figcaption");
      caption.append(element("b", name), element("span", " no frame yet"));
      figure.append(image, caption);
      return figure;
    }));
  },

  joints(told) {
    times.push(...told.tick.map((tick) => tick / session.control_hz));
    series.forEach(([measured, commanded], joint) => {
      measured.push(...told.measured[joint]);
      commanded.push(...told.commanded[joint]);
    });
    told.chunks.forEach((chunk) => chunks.set(chunk.id, chunk));
    const oldest = times.length ? times[times.length - 1] - session.window_s : 0;
    const old = times.findIndex((time) => time >= oldest);
    [times, ...series.flat()].forEach((values) => values.splice(0, Math.max(old, 0)));
    for (const [id, chunk] of chunks) {
      const rows = chunk.weights.length * session.ticks_per_row;
      if ((chunk.first_tick + rows) / session.control_hz < oldest) chunks.delete(id);
    }
    redraw ||= requestAnimationFrame(drawPlots);
  },

  look(told) {
    showHeader(told);
    showProcesses(told.processes);
    showJitter(told);
    showChunk(told);
    showCameras(told.cameras);
    fill(at("events"), [...told.events].reverse().map((event) => {
      const line = element("li", event.words);
      if (event.tick >= 0) line.prepend(element("b", `tick ${event.tick}`));
      return line;
    }));
  },

  ended(sentence) {
    ended = sentence;
    over(sentence);
  },
};

function showHeader(told) {
  const params = Object.entries(told.algorithm_params).map(([name, value]) => `, ${name} ${value}`);
  const stats = told.tick_stats;
  document.title = `${told.robot}: ${told.session}`;
  at("robot").textContent = told.robot;
  at("session").textContent =
    `session ${told.session} · ${told.algorithm}${params.join("")} · io ${told.io}`;
  at("dry_run").hidden = !told.dry_run;
  at("place").textContent = [
    `tick ${told.tick}`,
    `${told.rate_hz.toFixed(1)} of ${session.control_hz} Hz`,
    ...(stats.episodes ? [`${stats.successes} of ${stats.episodes} episodes successful`] : []),
  ].join(" · ");
  const why = stats.why ? `: ${stats.why}` : "";
  if (told.tick < 0) say("waits for the first tick", "worth");
  else if (told.silent_ms > Math.max(1000, 10000 / session.control_hz)) {
    say(`no tick for ${duration(told.silent_ms)}`, "bad");
  } else if (stats.hold !== "NONE") say(`holds, ${stats.hold.toLowerCase()}${why}`, "worth");
  else say((stats.phase === "RUN" ? "executes" : "moves to its initial pose") + why, "good");
}

function showProcesses(processes) {
  const rows = processes.flatMap((process) => {
    const done = ["ended", "failed"].includes(process.state);
    const state = process.scheduler === "gone" && !done ? "gone" : process.state;
    const lost = ["failed", "gone"].includes(state);
    const kind = ["ready", "running"].includes(state) ? "good" : lost ? "bad" : "worth";
    const row = element("tr");
    const share = process.cpu_percent === null ? "" : `${process.cpu_percent.toFixed(1)} %`;
    const beat = process.heartbeat_age_ms;
    row.append(
      element("td", process.name),
      element("td", state, kind),
      element("td", beat === null ? "" : `${duration(beat)} ago`, "number"),
      element("td", share, "number"),
    );
    const refused = (process.realtime || []).filter((grant) => !grant.ok);
    const names = refused.map((grant) => grant.name).join(", ");
    const detail = names ? `not granted: ${names}` : process.detail;
    if (!detail) return [row];
    const said = element("tr");
    said.append(element("td", detail, "detail"));
    said.firstChild.colSpan = 4;
    return [row, said];
  });
  fill(at("processes").tBodies[0], rows);
}

// Heights grow with the logarithm of the count: one late tick in a million is to be seen.
function showJitter(told) {
  const { edges_us: edges, counts } = told.jitter;
  const highest = Math.log1p(Math.max(...counts, 1));
  fill(at("jitter"), counts.map((count, bin) => {
    const bar = element("i");
    bar.style.height = `${(100 * Math.log1p(count)) / highest}%`;
    const low = bin ? microseconds(edges[bin - 1]) : "0";
    const high = bin < edges.length ? microseconds(edges[bin]) : "more";
    bar.title = `${low} to ${high}: ${count} ticks`;
    return bar;
  }));
  fill(at("jitter_axis"), edges.flatMap((edge, bin) => {
    if (bin % 8) return [];
    const label = element("span", edge < 1000 ? `${edge} µs` : `${edge / 1000} ms`);
    label.style.left = `${(100 * (bin + 1)) / counts.length}%`;
    return [label];
  }));
  const late = told.tick_stats.wake_error_us;
  const label = `half within ${late.p50} µs, the latest ${late.max} µs`;
  at("jitter").setAttribute("aria-label", label);
  const holds = Object.entries(told.holds).map(([why, count]) => `${why.toLowerCase()} ${count}`);
  figures("jitter_figures", [
    ...Object.entries(late).map(([name, us]) => [name, microseconds(us)]),
    ["overruns", told.tick_stats.overruns, told.tick_stats.overruns > 0],
    ["holds", [`${told.tick_stats.holds} ticks`, ...holds].join(", ")],
  ]);
}

function showChunk(told) {
  const { chunk, inference } = told;
  const used = chunk.id >= 0;
  at("chunk_name").textContent =
    used ? `number ${chunk.id}, ${chunk.mode}${chunk.cold ? ", cold" : ""}` : "none in use";
  const done = new Set(chunk.executed);
  fill(at("chunk"), chunk.weights.map((weight, row) => {
    const now = chunk.row >= 0 && row === Math.floor(chunk.row);
    const bar = element("i");
    bar.className = now ? "now" : done.has(row) ? "executed" : weight > 0 ? "weighted" : "";
    if (bar.className === "weighted") bar.style.opacity = 0.25 + 0.75 * Math.min(weight, 1);
    bar.title = `row ${row}, W ${weight}`;
    return bar;
  }));
  const newest = inference.last[inference.last.length - 1];
  const late = newest && newest.d_counted !== null && newest.d_counted > newest.d_planned;
  const { OK, ...unanswered } = inference.outcomes;
  const missing = Object.values(unanswered).reduce((sum, count) => sum + count, 0);
  figures("chunk_figures", [
    ...(used ? [["row", `${chunk.row >= 0 ? Math.floor(chunk.row) : "-"} of ${chunk.H}`]] : []),
    ...(newest ? [
      ["delay", `${newest.d_counted ?? "-"} rows, planned ${newest.d_planned}`, late],
      ["inference", `${newest.total_ms.toFixed(0)} ms`],
    ] : []),
    ["chunks", inference.published],
    ["late", inference.late, inference.late > 0],
    ...(missing ? [["unanswered", missing, true]] : []),
    ["refused", inference.dropped, inference.dropped > 0],
  ]);
}

function showCameras(cameras) {
  cameras.forEach((camera) => {
    const figure = at("cameras").children[session.cameras.indexOf(camera.name)];
    const caption = figure.lastChild.lastChild;
    const old = camera.age_ms !== null && camera.age_ms > session.max_camera_age_ms;
    const rate = camera.rate_hz === null ? "" : ` · ${camera.rate_hz.toFixed(0)} Hz`;
    const age = `${old ? "old: " : ""}${duration(camera.age_ms)}${rate}`;
    caption.textContent = ` ${camera.age_ms === null ? "no frame yet" : age}`;
    caption.className = old || camera.age_ms === null ? "worth" : "";
  });
}

// One byte with the camera's number, then a JPEG.
async function showPicture(blob) {
  const [number] = new Uint8Array(await blob.slice(0, 1).arrayBuffer());
  const image = at("cameras").children[number].firstChild;
  const before = image.src;
  image.src = URL.createObjectURL(blob.slice(1, blob.size, "image/jpeg"));
  if (before) URL.revokeObjectURL(before);
}

// ---- the connection

function over(words) {
  say(words, "bad");
  document.body.classList.add("over");
}

function connect() {
  const token = new URLSearchParams(location.hash.slice(1)).get("token");
  const query = token === null ? "" : `?token=${encodeURIComponent(token)}`;
  const socket = new WebSocket(`${location.origin.replace("http", "ws")}/ws${query}`);
  socket.onopen = () => document.body.classList.remove("over");
  socket.onmessage = ({ data }) => {
    if (typeof data !== "string") showPicture(data);
    else for (const [part, told] of Object.entries(JSON.parse(data))) show[part](told);
  };
  socket.onclose = () => {
    if (ended) return;
    over(session
      ? "no connection: the view was stopped, or the network is gone"
      : "no connection: is the whole address there, with its token?");
    setTimeout(connect, RETRY_MS);
  };
}

addEventListener("resize", resize);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
  if (!session) return;
  at("joints").replaceChildren();
  makePlots();
});
connect();
