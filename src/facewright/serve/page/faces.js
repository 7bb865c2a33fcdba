// The faces of a photo as a list: a row a face, and under it the people most like it.

import { about } from "./about.js";
import { avatar } from "./avatars.js";
import { answerLine, classRows } from "./classes.js";
import { button, byId, make, note, span } from "./dom.js";
import { faceCanvas, faceFile } from "./photo.js";
import { count, percent, score } from "./words.js";

const SIDE = 112; // px of the crops; shown at half of that, sharp on fine screens

/** What a face is called, in a word or two. */
export function nameOf(face, threshold) {
  if (face.matches === undefined) return null; // no identification was requested
  if (face.person !== null) return face.person;
  return threshold === null && face.matches.length > 0 ? "not decided" : "unknown";
}

/**
 * The list.
 * @param answer width, height, faces, threshold: as the server gave it
 * @param selected called with the number of a face whose row opens, null when it closes
 * @param enrol called with the number of a face that shall be enrolled; null where that is not possible
 * @returns list: the element; open(number): open a row
 */
export function faceList(photo, answer, selected, enrol) {
  const rows = answer.faces.map((face, number) => row(photo, answer, face, number, enrol));
  function open(number) {
    rows.forEach(({ opener, detail }, index) => {
      const here = index === number;
      opener.setAttribute("aria-expanded", String(here));
      detail.hidden = !here;
      if (here && !detail.firstChild) detail.append(...rows[index].filling());
    });
    selected(number);
  }
  rows.forEach(({ opener }, number) => {
    const toggle = () => open(opener.getAttribute("aria-expanded") === "true" ? null : number);
    opener.addEventListener("click", toggle);
  });
  return { list: make("ol", { class: "faces card" }, ...rows.map(({ item }) => item)), open };
}

function row(photo, answer, face, number, enrol) {
  const crop = faceCanvas(photo, face, answer, SIDE);
  crop.classList.add("crop");
  crop.setAttribute("aria-hidden", "true");
  const opener = make(
    "button",
    { type: "button", class: "face-row", "aria-expanded": "false", "aria-controls": `face-${number}` },
    crop,
    span("face-words", title(face, number, answer), span("sub", subtitle(face, answer))),
    span("face-score", sureness(face)),
  );
  const detail = make("div", { class: "face-detail", id: `face-${number}`, hidden: true });
  const item = make("li", {}, opener, detail);
  return { item, opener, detail, filling: () => filling(photo, face, number, answer, enrol) };
}

function sureness({ matches, predicted }) {
  if (matches?.length) return score(matches[0].score);
  return predicted?.top.length ? percent(predicted.top[0].probability) : "";
}

function title(face, number, answer) {
  const name = nameOf(face, answer.threshold);
  const words = name ?? (face.predicted ? answerLine(face.predicted) : `Face ${number + 1}`);
  return make("span", { class: face.person ? "name" : "name unnamed" }, span("number", String(number + 1)), words);
}

function subtitle(face, { threshold }) {
  const size = `${count(Math.round(face.w))} × ${count(Math.round(face.h))} px`;
  if (face.matches === undefined) return face.score === null ? size : `${size}, detector ${face.score.toFixed(2)}`;
  const told = face.predicted ? `${answerLine(face.predicted)}; ` : "";
  if (!face.matches.length) return `${told}the gallery is empty`;
  return `${told}${face.person !== null ? `threshold ${score(threshold)}` : `nearest match: ${face.matches[0].person}`}`;
}

function filling(photo, face, number, answer, enrol) {
  const made = [];
  if (face.predicted) {
    const alone = photo.image === null ? null : () => faceFile(photo, face, answer, number + 1);
    made.push(classRows(alone, face.predicted, byId("look-heat")));
  }
  if (face.matches?.length) made.push(matchList(face.matches, answer.threshold));
  if (face.matches !== undefined && enrol !== null) {
    const words = face.person === null ? "Enroll this face" : "Enroll this face too";
    made.push(button("secondary small", words, () => enrol(number)));
  }
  if (face.matches === undefined) {
    made.push(note(`At ${Math.round(face.x)}, ${Math.round(face.y)} px from the upper left corner.`));
  }
  return made;
}

/** People with their scores, on one scale with the threshold. */
function matchList(matches, threshold) {
  const ends = scale([...matches.map((match) => match.score), ...(threshold === null ? [] : [threshold])]);
  const rows = matches.map((match) => {
    const over = threshold !== null && match.score >= threshold;
    return make(
      "li",
      {},
      avatar(match.person),
      span("match-name", match.person, span("sub", match.photo)),
      track(match.score, threshold, ends, over),
      span("match-score", score(match.score)),
    );
  });
  const undecided = "No threshold is set, so no face is identified.";
  const told = threshold === null ? undecided : `The line is the threshold, ${score(threshold)}.`;
  return make("div", {}, make("ol", { class: "matches" }, ...rows), note(told));
}

/** The ends of a scale that shows these scores apart; 1 is a photo compared with itself. */
function scale(scores) {
  const known = about.threshold?.histograms;
  const least = Math.min(...scores, known ? lowestScore(known) : 1);
  return [least - 0.05 * (1 - least), 1];
}

/** The lower edge of the first bin that a pair fell into. */
function lowestScore({ low, high, genuine, impostor }) {
  const first = impostor.findIndex((number, bin) => number + genuine[bin] > 0);
  return first < 0 ? high : low + ((high - low) * first) / impostor.length;
}

function track(value, threshold, [low, high], over) {
  const share = (number) => `${(100 * Math.min(1, Math.max(0, (number - low) / (high - low)))).toFixed(2)}%`;
  const dot = make("span", { class: over ? "dot over" : "dot" });
  dot.style.left = share(value);
  const line = make("span", { class: "track", "aria-hidden": "true" }, dot);
  if (threshold !== null) {
    const tick = span("tick");
    tick.style.left = share(threshold);
    line.prepend(tick);
  }
  return line;
}
