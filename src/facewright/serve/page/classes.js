// What a classifier says of a photo: its likeliest classes, and where on the photo it saw one.

import { about } from "./about.js";
import { postForm } from "./api.js";
import { busyLine, make, note, showError, span } from "./dom.js";
import { heatFigure } from "./why.js";
import { percent, score } from "./words.js";

/** One line: the answer. */
export function answerLine({ top, answer, unknown }) {
  if (unknown) return `Unknown, nearest match ${top[0].name}`;
  return answer ? answer.name : top[0].name;
}

/**
 * The card of classes.
 * @param predicted the server's answer
 * @param place where a heat map goes
 */
export function classCard(photo, predicted, place) {
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
