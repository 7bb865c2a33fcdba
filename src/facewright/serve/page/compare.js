// The second tab: two photos, the same person or not, and where the score stands.

import { about } from "./about.js";
import { postForm } from "./api.js";
import { showChart } from "./chart.js";
import { announce, busyLine, button, byId, make, showError, span } from "./dom.js";
import { intake } from "./intake.js";
import { closePhoto, openPhoto, sizeOf } from "./photo.js";
import { showStage } from "./stage.js";
import { standing } from "./standing.js";
import { heatFigure } from "./why.js";
import { percent, rate, score } from "./words.js";

const SIDES = ["a", "b"];
const COLOURS = { match: "same", "no match": "other" };
const TITLES = { a: { mouse: "One photo", touch: "One photo" }, b: { mouse: "Another photo", touch: "Another photo" } };
const SELECTIONS = [
  ["center", "nearest to the center"],
  ["largest", "largest"],
];

const UNDECIDED = "No threshold is known for this model, so only the score is shown; an image compared with itself scores 1.";

const slots = {}; // side → {photo, place, pressed, words}
let asking = null;
let selectFace = SELECTIONS[0][0];

/** Set the tab up. */
export function startCompare() {
  for (const side of SIDES) byId("compare-pair").append(slot(side));
  const choice = make("select", {}, ...SELECTIONS.map(([value, words]) => make("option", { value }, words)));
  choice.addEventListener("change", () => {
    selectFace = choice.value;
    compare();
  });
  byId("compare-select").append("If there are several faces, use the one ", choice);
}

function slot(side) {
  const place = make("div", { class: "stage" });
  const words = make("p", { class: "slot-words" });
  const { zone, pressed } = intake({
    title: TITLES[side],
    hint: "Drop, paste or choose",
    camera: "Camera",
    many: true,
    taken: (files) => takeFrom(side, files),
  });
  pressed.prepend(place);
  slots[side] = { photo: null, place, pressed, words };
  return make("div", { class: "slot" }, zone, words);
}

/** Files that came without a place: the empty one first. */
export function takePair(files) {
  takeFrom(slots.a.photo !== null && slots.b.photo === null ? "b" : "a", files);
}

/** The first file goes here, a second one to the other side. */
async function takeFrom(side, files) {
  const other = side === "a" ? "b" : "a";
  await put(side, files[0]);
  if (files.length > 1) await put(other, files[1]);
  await compare();
}

async function put(side, file) {
  const photo = await openPhoto(file, about.limits, SIDES.length);
  const mine = slots[side];
  if (mine.photo !== null) closePhoto(mine.photo);
  mine.photo = photo;
  mine.pressed.classList.add("filled");
  const which = side === "a" ? "First" : "Second";
  mine.pressed.setAttribute("aria-label", `${which} photo: ${photo.name}; choose another`);
  showSide(mine, null);
}

/** The photo with the face that was taken. */
function showSide({ photo, place, words }, told) {
  const size = told ?? sizeOf(photo);
  const face = told?.face ?? null;
  showStage(place, photo, { size, faces: face === null ? [] : [{ ...face, label: null, known: true }] });
  const said = [photo.note, told?.reason ?? told?.message ?? null].filter((part) => part !== null);
  const parts = said.map((part) => make("span", { class: told?.reason ? "bad" : "sub" }, sentence(part)));
  words.replaceChildren(span("file-name", photo.name), ...parts);
}

const sentence = (words) => words.charAt(0).toUpperCase() + words.slice(1);

async function compare() {
  const { a, b } = slots;
  asking?.abort();
  byId("compare-error").replaceChildren();
  byId("compare-result").replaceChildren();
  if (a.photo === null || b.photo === null) return;
  byId("compare").classList.add("has-result");
  asking = new AbortController();
  const { signal } = asking;
  byId("compare-result").replaceChildren(busyLine("Comparing …"));
  announce("Comparing");
  try {
    const found = await postForm("v1/verify", { a: a.photo, b: b.photo, select_face: selectFace }, signal);
    for (const side of SIDES) showSide(slots[side], found[side]);
    showVerdict(found);
  } catch (error) {
    if (error.name === "AbortError") return;
    byId("compare-result").replaceChildren();
    announce("");
    showError(byId("compare-error"), error, compare);
  }
}

function showVerdict(found) {
  const words = verdict(found);
  const several = SIDES.some((side) => found[side].faces > 1);
  byId("compare-select").hidden = !several;
  const why = make("div", { class: "why" });
  const parts = [
    make("h2", { class: `verdict ${COLOURS[found.verdict] ?? ""}` }, words),
    ...remarks(found).map((line) => make("p", {}, line)),
  ];
  if (found.score !== null && about.can.explain) {
    const ask = button("secondary", "Why?", () => showWhy(why, ask));
    parts.push(make("p", {}, ask));
  }
  const card = make("section", { class: "card verdict-card" }, make("div", { class: "verdict-words" }, ...parts));
  byId("compare-result").replaceChildren(card, why);
  const histograms = about.threshold?.histograms ?? null;
  if (found.score !== null && histograms !== null) {
    const place = make("figure", { class: "chart" });
    card.append(place);
    showChart(place, histograms, { threshold: found.threshold, score: found.score });
  }
  announce(words);
}

/** The answer in words; where there is none, why. */
function verdict({ score: value, verdict: words }) {
  if (value === null) return "Nothing to compare";
  if (words === null) return `Score ${score(value)}`;
  return words[0].toUpperCase() + words.slice(1);
}

function remarks(found) {
  if (found.score === null) {
    const without = SIDES.filter((side) => found[side].reason);
    return without.map((side) => `${slots[side].photo.name}: ${found[side].reason}.`);
  }
  if (found.same === null) return [UNDECIDED];
  const where = `${found.same ? "at or above" : "below"} the threshold ${score(found.threshold)}`;
  const lines = [`Score ${score(found.score)}, ${where}.`];
  if (found.probability !== null) {
    const chance = percent(found.probability);
    lines.push(`Match probability: ${chance}, at the calibration set's prior.`);
  }
  const histograms = about.threshold?.histograms ?? null;
  if (histograms !== null) lines.push(standing(histograms, found.score));
  if (found.far !== null) lines.push(`False-accept rate at this threshold: ${rate(found.far)} impostor pairs.`);
  if (found.data !== null) lines.push(`Measured on ${found.data}.`);
  return lines;
}

async function showWhy(place, ask) {
  const { a, b } = slots;
  ask.disabled = true;
  place.replaceChildren(busyLine("Covering one region after the other; this takes some seconds …"));
  place.scrollIntoView({ block: "nearest" });
  try {
    const found = await postForm("v1/explain", { a: a.photo, b: b.photo, select_face: selectFace });
    const words = "How far the similarity falls when a region is covered";
    const sides = SIDES.map((side) => ({ ...found[side], name: slots[side].photo.name }));
    place.replaceChildren(heatFigure(sides, words, "no change", `${score(found.drop)} less`));
    announce(words);
  } catch (error) {
    ask.disabled = false;
    showError(place, error, () => showWhy(place, ask));
  }
}
