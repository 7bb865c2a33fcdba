// The histograms of genuine and impostor pairs, with the threshold and one score: SVG at the width it is shown.

import { draw, make } from "./dom.js";
import { binOf, standing } from "./standing.js";
import { watchSize } from "./stage.js";
import { count, score } from "./words.js";

const HEIGHT = 230;
const PLOT = { top: 58, bottom: 200 }; // px; above it two lines of words, below it the axis
const SIDE = 14;
const LETTER = 6.6; // px: mean width of a letter of the words, for keeping them inside

/** Draw the chart, and again whenever its place changes its width. */
export function showChart(place, histograms, marks) {
  const drawing = make("div", { class: "drawing" });
  place.replaceChildren(drawing, legend(histograms));
  let width = 0;
  watchSize(drawing, () => {
    if (drawing.clientWidth === width) return;
    width = drawing.clientWidth;
    if (width > 0) drawing.replaceChildren(chart(histograms, marks, width));
  });
}

function chart(histograms, { threshold, score: value }, width) {
  const { low, high, genuine, impostor } = histograms;
  const step = (high - low) / impostor.length;
  const [first, last] = shownBins(histograms, [value, ...(threshold === null ? [] : [threshold])]);
  const [from, to] = [low + first * step, low + (last + 1) * step];
  const x = (number) => SIDE + ((number - from) / (to - from)) * (width - 2 * SIDE);
  const most = Math.max(1, ...genuine, ...impostor);
  const y = (number) => PLOT.bottom - (number / most) * (PLOT.bottom - PLOT.top);
  const area = (bins, name) => {
    let path = `M${x(from)} ${PLOT.bottom}`;
    for (let bin = first; bin <= last; bin += 1) {
      path += `L${x(low + bin * step)} ${y(bins[bin] ?? 0)}L${x(low + (bin + 1) * step)} ${y(bins[bin] ?? 0)}`;
    }
    return draw("path", { class: name, d: `${path}L${x(to)} ${PLOT.bottom}Z` });
  };
  const parts = [area(impostor, "impostor"), area(genuine, "genuine"), ...axis(from, to, x, width)];
  const away = value > threshold ? "end" : "start"; // the words of the threshold keep clear of the score's line
  if (threshold !== null) parts.push(...mark("threshold", threshold, x, 40, width, away));
  parts.push(...mark("score", value, x, 18, width, "middle"));
  const words = `This pair has ${score(value)}. ${standing(histograms, value)}`;
  const box = { viewBox: `0 0 ${width} ${HEIGHT}`, width, height: HEIGHT };
  return draw("svg", { ...box, role: "img", "aria-label": words }, ...parts);
}

/** The first and last bin that hold something, the marks among them, and one empty bin on each side. */
function shownBins({ low, high, genuine, impostor }, values) {
  const bins = impostor.length;
  const used = values.map((value) => binOf(value, low, high, bins));
  impostor.forEach((number, bin) => {
    if (number + genuine[bin] > 0) used.push(bin);
  });
  return [Math.min(...used) - 1, Math.max(...used) + 1];
}

function axis(from, to, x, width) {
  const line = draw("line", { class: "axis", x1: SIDE, x2: width - SIDE, y1: PLOT.bottom, y2: PLOT.bottom });
  const digits = Math.max(0, Math.ceil(-Math.log10(tickStep(from, to, width)) - 1e-9));
  const ticks = ticksOf(from, to, width).flatMap((value) => [
    draw("line", { class: "axis", x1: x(value), x2: x(value), y1: PLOT.bottom, y2: PLOT.bottom + 4 }),
    draw("text", { x: x(value), y: PLOT.bottom + 19, "text-anchor": "middle" }, value.toFixed(digits)),
  ]);
  return [line, ...ticks];
}

/** 1, 2 or 5 times a power of ten, so that the ticks stand some 70 px apart at least. */
function tickStep(from, to, width) {
  const least = ((to - from) * 70) / width;
  const power = 10 ** Math.floor(Math.log10(least));
  return [1, 2, 5, 10].map((times) => times * power).find((step) => step >= least);
}

function ticksOf(from, to, width) {
  const step = tickStep(from, to, width);
  const ticks = [];
  for (let number = Math.ceil(from / step); number * step <= to; number += 1) ticks.push(number * step);
  return ticks;
}

/** A line at a value with its words over it, kept inside the drawing; `anchor`: which end of the words stands there. */
function mark(name, value, x, height, width, anchor) {
  const words = `${name === "score" ? "this pair" : "threshold"} ${score(value)}`;
  const long = words.length * LETTER;
  const before = { start: -4, middle: long / 2, end: long + 4 }[anchor]; // px of the words to the left of the line
  const left = Math.min(Math.max(x(value) - before, 0), width - long);
  return [
    draw("line", { class: name, x1: x(value), x2: x(value), y1: height + 6, y2: PLOT.bottom }),
    draw("text", { class: name, x: left + long / 2, y: height, "text-anchor": "middle" }, words),
    ...(name === "score" ? [draw("circle", { class: name, cx: x(value), cy: PLOT.bottom, r: 4.5 })] : []),
  ];
}

function legend({ genuine, impostor }) {
  const total = (bins) => count(bins.reduce((sum, number) => sum + number, 0));
  const swatch = (name) => make("span", { class: `swatch ${name}`, "aria-hidden": "true" });
  const row = (name, words) => make("span", {}, swatch(name), words);
  return make(
    "figcaption",
    { class: "legend" },
    row("impostor", `${total(impostor)} impostor pairs`),
    row("genuine", `${total(genuine)} genuine pairs`),
  );
}
