"use strict";
// Masks: what the server sends, as colors and as areas.

/** Parses a NumPy file: {data, height, width, planes}; planes is 1, or the number of classes of a multi-label mask. */
function parseNpy(buffer) {
  const view = new DataView(buffer);
  const wide = view.getUint8(6) > 1; // version 2 has a longer length
  const start = wide ? 12 : 10;
  const length = wide ? view.getUint32(8, true) : view.getUint16(8, true);
  const header = new TextDecoder("latin1").decode(new Uint8Array(buffer, start, length));
  const shape = header.match(/'shape': \(([^)]*)\)/)[1].split(",").filter((part) => part.trim()).map(Number);
  const Values = /'descr': '<u2'/.test(header) ? Uint16Array : Uint8Array;
  return { data: new Values(buffer.slice(start + length)), height: shape[0], width: shape[1], planes: shape[2] || 1, multi: shape.length > 2 };
}

/** Pixels of each class. */
function areasOf(mask, numClasses) {
  const areas = new Array(numClasses).fill(0);
  if (mask.multi) {
    mask.data.forEach((value, at) => { areas[at % mask.planes] += value; });
    return areas;
  }
  const counts = new Uint32Array(1 << (8 * mask.data.BYTES_PER_ELEMENT));
  for (const id of mask.data) counts[id] += 1;
  return areas.map((_, id) => counts[id]);
}

/** Draws a mask in its classes' colors; hidden classes and pixels of no class are transparent. */
function paintMask(canvas, mask, colors, hidden) {
  canvas.width = mask.width;
  canvas.height = mask.height;
  const context = canvas.getContext("2d");
  const image = context.createImageData(mask.width, mask.height);
  if (mask.multi) mixPlanes(image.data, mask, colors, hidden);
  else {
    const table = new Uint32Array(1 << (8 * mask.data.BYTES_PER_ELEMENT));
    colors.forEach(([red, green, blue], id) => {
      if (!hidden.has(id)) table[id] = new Uint32Array(new Uint8Array([red, green, blue, 255]).buffer)[0];
    });
    const pixels = new Uint32Array(image.data.buffer);
    for (let at = 0; at < pixels.length; at += 1) pixels[at] = table[mask.data[at]];
  }
  context.putImageData(image, 0, 0);
}

/** A pixel of several classes gets the mean of their colors. */
function mixPlanes(pixels, mask, colors, hidden) {
  for (let at = 0; at < mask.width * mask.height; at += 1) {
    const sum = [0, 0, 0];
    let count = 0;
    for (let id = 0; id < mask.planes; id += 1) {
      if (!mask.data[at * mask.planes + id] || hidden.has(id)) continue;
      count += 1;
      for (let channel = 0; channel < 3; channel += 1) sum[channel] += colors[id][channel];
    }
    if (count) pixels.set([...sum.map((value) => value / count), 255], 4 * at);
  }
}

/** "#ff8000" as [255, 128, 0]. */
function rgbOf(color) {
  return [1, 3, 5].map((at) => parseInt(color.slice(at, at + 2), 16));
}

/** The header Server-Timing as {name: milliseconds}. */
function timesOf(header) {
  return Object.fromEntries((header || "").split(", ").filter(Boolean).map((entry) => {
    const [name, value] = entry.split(";dur=");
    return [name, Number(value)];
  }));
}
