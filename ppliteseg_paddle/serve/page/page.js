// The page: what is shown, and what the buttons do.

const byId = (id) => document.getElementById(id);
const hidden = new Set(); // ids of classes that are not colored
let server = { classes: [], max_upload: Infinity }; // what /health says
let colors = [];
let shown = null; // {mask, blob, name, live} of the image that is on the page
let turn = 0; // of the source: what belongs to an earlier one is dropped
let end = () => {}; // of the current video or camera

// ---------------------------------------------------------------- the server
async function post(blob, format) {
  if (blob.size > server.max_upload) throw new Error(`the file has ${megabytes(blob.size)}, more than the ${megabytes(server.max_upload)} that this server takes`);
  let body = blob;
  if (blob instanceof File) { // the server calls it by its name
    body = new FormData();
    body.append("file", blob);
  }
  let response;
  try {
    response = await fetch(`/predict?format=${format}`, { method: "POST", body });
  } catch {
    throw new Error("the server does not answer: is it still running?");
  }
  if (response.ok) return response;
  const { error } = await response.json().catch(() => ({ error: response.statusText }));
  throw Object.assign(new Error(error), { retryAfter: Number(response.headers.get("Retry-After")) });
}

async function segment(blob) {
  const begin = performance.now();
  const response = await post(blob, "npy");
  const mask = parseNpy(await response.arrayBuffer());
  return { mask, times: timesOf(response.headers.get("Server-Timing")), roundTrip: performance.now() - begin };
}

// ---------------------------------------------------------------- sources
async function begin(name, work) {
  end();
  end = () => {};
  turn += 1;
  const own = turn;
  say("");
  byId("empty").hidden = true;
  byId("bar").hidden = false;
  byId("name").textContent = name;
  byId("size").textContent = "";
  byId("busy").hidden = false;
  byId("close").textContent = "New image";
  byId("stage").classList.add("filled");
  try {
    await work(() => own === turn);
  } catch (error) {
    if (own === turn) {
      if (!shown) clear();
      say(error.message);
    }
  } finally {
    if (own === turn) byId("busy").hidden = true;
  }
}

function openFile(file) {
  if (file.type.startsWith("video/")) return begin(file.name, (current) => openLive(videoOf(file), file.name, current));
  shown = null;
  byId("pause").hidden = true;
  return begin(file.name, async (current) => {
    const picture = await pictureOf(file);
    if (picture && current()) {
      drawPicture(picture);
      byId("mask").hidden = true;
    }
    const result = await segment(file);
    if (!current()) return;
    if (!picture) byId("picture").hidden = true;
    show({ ...result, blob: file, name: file.name, live: false });
    byId("rate").textContent = figure(result.roundTrip);
    byId("rate-unit").textContent = "ms round trip";
  });
}

async function openLive(opening, name, current) {
  shown = null;
  byId("pause").hidden = true;
  const { video, end: stop } = await opening;
  if (!current()) { stop(); return; }
  end = stop;
  byId("close").textContent = "Stop";
  byId("pause").hidden = false;
  byId("pause").textContent = "Pause";
  byId("pause").onclick = () => {
    if (video.paused) video.play();
    else video.pause();
    byId("pause").textContent = video.paused ? "Resume" : "Pause";
  };
  const times = [];
  while (current()) {
    await nextFrame(video);
    const { canvas, blob } = await grabFrame(video);
    let result;
    try {
      result = await segment(blob);
    } catch (error) {
      if (!error.retryAfter) throw error;
      await new Promise((resolve) => { setTimeout(resolve, 1000 * error.retryAfter); });
      continue;
    }
    if (!current()) break;
    byId("busy").hidden = true;
    drawPicture(canvas);
    show({ ...result, blob, name, live: true });
    times.push(performance.now());
    if (times.length > 12) times.shift();
    if (times.length > 1) byId("rate").textContent = figure(1000 * (times.length - 1) / (times[times.length - 1] - times[0]));
    byId("rate-unit").textContent = "frames a second";
  }
}

function clear() {
  turn += 1;
  end();
  end = () => {};
  shown = null;
  ["picture", "mask", "bar", "busy"].forEach((id) => { byId(id).hidden = true; });
  byId("empty").hidden = false;
  byId("stage").classList.remove("filled");
  byId("stage").style.removeProperty("--shape");
  ["latency", "rate"].forEach((id) => { byId(id).textContent = "–"; });
  byId("rate-unit").textContent = "ms round trip";
  tellTimes({});
  drawLegend();
  say("");
}

// ---------------------------------------------------------------- what is shown
function drawPicture(source) {
  const canvas = byId("picture");
  canvas.width = source.width;
  canvas.height = source.height;
  canvas.getContext("2d").drawImage(source, 0, 0);
  canvas.hidden = false;
  shapeStage(source);
}

/** On a narrow window the stage has the image's shape, as photographs of phones are upright. */
function shapeStage({ width, height }) {
  byId("stage").style.setProperty("--shape", `${width} / ${height}`);
}

function show(result) {
  const seen = shown && shown.live ? shown.seen : new Set();
  shown = { ...result, areas: areasOf(result.mask, colors.length), seen };
  shown.areas.forEach((area, id) => { if (area) seen.add(id); });
  paintMask(byId("mask"), shown.mask, colors, hidden);
  byId("mask").hidden = false;
  shapeStage(shown.mask);
  byId("size").textContent = `${shown.mask.width} × ${shown.mask.height}`;
  byId("latency").textContent = figure(result.times.total);
  tellTimes(result.times);
  drawLegend();
}

function tellTimes(times) {
  const values = ["decode", "queue", "network", "finish"].map((name) => times[name]);
  [...byId("stages").children].forEach((part, at) => { part.style.flexGrow = values[at] || 0; });
  [...byId("steps").querySelectorAll("dd")].forEach((cell, at) => {
    cell.textContent = values[at] === undefined ? "–" : `${figure(values[at])} ms`;
  });
}

function drawLegend() {
  const list = byId("legend");
  const pixels = shown ? shown.mask.width * shown.mask.height : 1;
  const ids = shown ? [...shown.seen] : server.classes.map((row) => row.id);
  // By area; of a video by id, so that rows stay where they are.
  ids.sort((a, b) => (shown && !shown.live ? shown.areas[b] - shown.areas[a] : a - b));
  const focused = document.activeElement && document.activeElement.dataset.id;
  list.replaceChildren(...ids.map((id) => legendRow(server.classes[id], shown ? shown.areas[id] / pixels : null)));
  if (focused !== undefined) list.querySelector(`[data-id="${focused}"]`)?.focus();
  byId("show-all").hidden = hidden.size === 0;
}

function legendRow(row, share) {
  const button = document.createElement("button");
  button.dataset.id = row.id;
  button.setAttribute("aria-pressed", String(!hidden.has(row.id)));
  button.title = hidden.has(row.id) ? `show ${row.name}` : `hide ${row.name}`;
  const parts = ["swatch", "label", "share"].map((name) => {
    const part = document.createElement("span");
    part.className = name;
    return part;
  });
  parts[0].style.background = row.color;
  parts[1].textContent = row.name.replaceAll("_", " ");
  button.append(...parts);
  if (share !== null) {
    parts[2].textContent = `${(100 * share).toFixed(1)} %`;
    const meter = document.createElement("span");
    meter.className = "meter";
    const fill = document.createElement("i");
    fill.style.width = `${100 * share}%`;
    fill.style.background = row.color;
    meter.append(fill);
    button.append(meter);
  }
  button.onclick = () => {
    if (!hidden.delete(row.id)) hidden.add(row.id);
    repaint();
  };
  const item = document.createElement("li");
  item.append(button);
  return item;
}

function repaint() {
  if (shown) paintMask(byId("mask"), shown.mask, colors, hidden);
  drawLegend();
}

function say(text) {
  byId("error").textContent = text;
  byId("error").hidden = !text;
}

function figure(value) {
  return value === undefined ? "–" : value < 10 ? value.toFixed(1) : value.toFixed(0);
}

function megabytes(bytes) {
  return `${(bytes / 2 ** 20).toFixed(1)} MB`;
}

// ---------------------------------------------------------------- buttons
async function save(format) {
  const { blob, name } = shown;
  const query = format === "overlay" ? `overlay&opacity=${byId("opacity").value / 100}` : format;
  try {
    const content = await (await post(blob, query)).blob();
    const link = document.createElement("a");
    link.href = URL.createObjectURL(content);
    const stem = name.replace(/\.[^.]*$/, "");
    link.download = format === "rle" ? `${stem}.json` : `${stem}-${format === "png" ? "mask" : format}.png`;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 60000);
    say("");
  } catch (error) {
    say(error.message);
  }
}

["png", "overlay", "rle"].forEach((format) => {
  byId(`save-${format}`).onclick = () => { if (shown) save(format); };
});
byId("choose").onclick = () => byId("file").click();
byId("file").onchange = (event) => {
  if (event.target.files.length) openFile(event.target.files[0]);
  event.target.value = "";
};
byId("camera").onclick = () => begin("Camera", (current) => openLive(cameraOf(), "camera", current));
byId("close").onclick = clear;
byId("show-all").onclick = () => { hidden.clear(); repaint(); };
byId("opacity").oninput = () => {
  byId("mask").style.opacity = byId("opacity").value / 100;
  byId("opacity").style.setProperty("--at", `${byId("opacity").value}%`);
  byId("opacity-value").textContent = `${byId("opacity").value} %`;
};
byId("opacity").oninput();
// While the image is pressed it is shown without its mask.
byId("stage").addEventListener("pointerdown", () => byId("stage").classList.toggle("bare", shown !== null));
["pointerup", "pointercancel", "pointerleave"].forEach((kind) => {
  byId("stage").addEventListener(kind, () => byId("stage").classList.remove("bare"));
});
document.addEventListener("dragover", (event) => { event.preventDefault(); byId("stage").classList.add("over"); });
document.addEventListener("dragleave", (event) => { if (!event.relatedTarget) byId("stage").classList.remove("over"); });
document.addEventListener("drop", (event) => {
  event.preventDefault();
  byId("stage").classList.remove("over");
  if (event.dataTransfer.files.length) openFile(event.dataTransfer.files[0]);
});
document.addEventListener("paste", (event) => {
  if (event.clipboardData.files.length) openFile(event.clipboardData.files[0]);
});

fetch("/health").then((response) => response.json()).then((found) => {
  server = found;
  colors = found.classes.map((row) => rgbOf(row.color));
  const { backend } = found;
  document.title = `PP-LiteSeg · ${found.model.name}`;
  byId("model").textContent = `${found.model.name} · ${colors.length} classes`;
  byId("runtime").textContent = `${backend.runtime} ${backend.version} on ${found.device}`;
  drawLegend();
}).catch(() => say("the server does not answer: is it still running?"));
