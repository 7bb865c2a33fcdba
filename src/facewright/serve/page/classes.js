// What a classifier says of a photo: its most probable classes, and where on the photo it saw one.

import { about } from "./about.js";
import { postForm } from "./api.js";
import { busyLine, make, note, showError, span } from "./dom.js";
import { heatFigure } from "./why.js";
import { percent, score } from "./words.js";

/** One line: the answer. */
export function answerLine({ top, answer, unknown, targets }) {
  if (targets) return Object.entries(targets).slice(0, 4).map(([name, one]) => `${name}: ${targetWords(one)}`).join(", ");
  if (unknown) return `Unknown, nearest match ${top[0].name}`;
  return answer ? answer.name : top[0].name;
}

/** The card of classes, or of targets; see `classRows`. */
export function classCard(photo, predicted, place) {
  const title = make("h3", {}, predicted.targets ? "Predictions" : "Classes");
  return make("section", { class: "card" }, title, classRows(photo, predicted, place));
}

/**
 * The classes, the most probable first, or the targets: attributes, numbers, classes by name.
 * @param photo what "Why?" asks about, or a function that makes it; null: nothing
 * @param predicted the server's answer
 * @param place where a heat map goes
 */
export function classRows(photo, predicted, place) {
  const why = photo !== null && about.can.explain_class;
  const rows = predicted.targets
    ? Object.entries(predicted.targets).map(([name, one]) => targetRow(name, one))
    : predicted.top.map(({ name, probability }) => ({ words: name, share: probability, asked: name }));
  const items = rows.map(({ words, share, asked, sure = percent(share) }) => {
    if (share === null) return make("li", {}, span("class-name", words));
    const bar = span("bar");
    bar.style.width = `${100 * share}%`;
    return make(
      "li",
      {},
      span("class-name", words),
      span("class-share", sure),
      make("span", { class: "bar-track", "aria-hidden": "true" }, bar),
      why ? whyButton(photo, asked, place) : "",
    );
  });
  return make("div", { class: "classes" }, make("ol", {}, ...items), ...notes(predicted).map((words) => note(words)));
}

function targetWords(one) {
  if ("yes" in one) return one.yes ? "yes" : "no";
  if ("value" in one) return one.value.toPrecision(4);
  return one.name;
}

function targetRow(name, one) {
  const range = typeof one.low === "number" ? ` (${one.low.toPrecision(4)} to ${one.high.toPrecision(4)})` : "";
  const words = `${name}: ${targetWords(one)}${range}`;
  if ("value" in one) return { words, share: null };
  if ("yes" in one) return { words, share: one.probability, sure: `yes ${percent(one.probability)}`, asked: name };
  return { words, share: one.probability, asked: `${name}: ${one.name}` };
}

function notes({ answer, unknown, similarity }) {
  const told = [];
  if (answer) told.push(`Score of ${answer.accepted}: ${score(answer.score)}, threshold ${score(answer.threshold)}.`);
  if (typeof similarity === "number") {
    told.push(`Similarity to the nearest class: ${score(similarity)}${unknown ? ", too low to be one of them" : ""}.`);
  }
  return told;
}

function whyButton(photo, name, place) {
  const why = async () => {
    place.replaceChildren(busyLine("Looking for what speaks for it …"));
    try {
      if (typeof photo === "function") photo = await photo();
      const found = await postForm("v1/explain/class", { photo, class: name });
      const words = `Where the network saw ${found.class} (${percent(found.probability)})`;
      place.replaceChildren(heatFigure([{ ...found, name: photo.name }], words, "nothing", "most"));
    } catch (error) {
      showError(place, error, why);
    }
  };
  return make("button", { type: "button", class: "link", "aria-label": `Why ${name}?`, click: why }, "Why?");
}
