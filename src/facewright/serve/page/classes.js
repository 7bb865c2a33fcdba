// What a classifier says of a photo: its likeliest classes, and where on the photo it saw one.

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

/**
 * The card of classes.
 * @param predicted the server's answer
 * @param place where a heat map goes
 */
export function classCard(photo, predicted, place) {
  if (predicted.targets) return targetCard(photo, predicted.targets, place);
  const rows = predicted.top.map(({ name, probability }) => {
    const bar = span("bar");
    bar.style.width = `${100 * probability}%`;
    return make(
      "li",
      {},
      span("class-name", name),
      span("class-share", percent(probability)),
      make("span", { class: "bar-track", "aria-hidden": "true" }, bar),
      about.can.explain_class ? whyButton(photo, name, place) : "",
    );
  });
  return make(
    "section",
    { class: "card classes" },
    make("h3", {}, "Classes"),
    make("ol", {}, ...rows),
    ...notes(predicted).map((words) => note(words)),
  );
}

function targetWords(one) {
  if ("yes" in one) return one.yes ? "yes" : "no";
  if ("value" in one) return one.value.toPrecision(4);
  return one.name;
}

/** The card of targets in place of classes: attributes, numbers, classes by name. */
function targetCard(photo, targets, place) {
  const rows = Object.entries(targets).map(([name, one]) => {
    const share = "value" in one ? null : one.probability;
    const bar = span("bar");
    bar.style.width = `${100 * (share ?? 0)}%`;
    const range = typeof one.low === "number" ? ` (${one.low.toPrecision(4)} to ${one.high.toPrecision(4)})` : "";
    const asked = "name" in one ? `${name}: ${one.name}` : name;
    return make(
      "li",
      {},
      span("class-name", `${name}: ${targetWords(one)}${range}`),
      span("class-share", share === null ? "" : percent(share)),
      share === null ? "" : make("span", { class: "bar-track", "aria-hidden": "true" }, bar),
      share !== null && about.can.explain_class ? whyButton(photo, asked, place) : "",
    );
  });
  return make("section", { class: "card classes" }, make("h3", {}, "Predictions"), make("ol", {}, ...rows));
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
      const found = await postForm("v1/explain/class", { photo, class: name });
      const words = `Where the network saw ${found.class} (${percent(found.probability)})`;
      place.replaceChildren(heatFigure([{ ...found, name: photo.name }], words, "nothing", "most"));
    } catch (error) {
      showError(place, error, why);
    }
  };
  return make("button", { type: "button", class: "link", "aria-label": `Why ${name}?`, click: why }, "Why?");
}
