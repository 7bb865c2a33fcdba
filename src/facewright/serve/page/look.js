// The first tab: one photo, the faces on it, who they are, or what a classifier says.

import { about } from "./about.js";
import { postForm } from "./api.js";
import { learnAvatars } from "./avatars.js";
import { answerLine, classCard } from "./classes.js";
import { announce, busyLine, byId, make, note, showError, span } from "./dom.js";
import { openEnrolment } from "./enrol.js";
import { faceList, nameOf } from "./faces.js";
import { intake } from "./intake.js";
import { closePhoto, faceFile, openPhoto, sizeOf } from "./photo.js";
import { showStage } from "./stage.js";
import { amount, count, score } from "./words.js";

const KEPT = 8; // photos that can be seen again without asking the server

const OVERLAP = 0.3; // of two boxes, from which on they are one face
const WHO = ["Who is on the photo?", "Finds every face and identifies those that are enrolled."];
const WHAT = ["Which class is it?", "The most probable classes."];
const WHERE = ["Where are the faces?", "Finds every face. To identify people, start the server with a gallery."];

const seen = []; // {photo, answer}, the newest first
let current = null; // the one that is shown
let asking = null; // aborts the request in progress
let another = () => undefined; // says on the drop zone that it takes another photo

/** Set the tab up. */
export function startLook() {
  const { gallery, predict, predict_faces: each } = about.can;
  const [title, lead] = gallery ? WHO : about.model.targets.length > 0 ? shows(each) : predict ? WHAT : WHERE;
  byId("look-title").textContent = title;
  byId("look-lead").textContent = lead;
  const { zone, retitle } = intake({
    title: { mouse: "Drop a photo here, or choose one", touch: "Choose a photo" },
    hint: "You may paste one, too",
    camera: "Use the camera",
    many: false,
    taken: ([file]) => look(file),
  });
  another = () => retitle("Another photo");
  byId("look-intake").append(zone);
  document.addEventListener("gallery-changed", () => {
    for (const entry of [...seen, ...(current === null ? [] : [current])]) entry.stale = true;
    if (!byId("look").hidden) lookAgain();
  });
}

function shows(each) {
  const { targets } = about.model;
  const named = targets.slice(0, 6).join(", ") + (targets.length > 6 ? ` and ${targets.length - 6} more` : "");
  return ["What does it show?", `Predicts ${named}${each ? " of every face" : ""}.`];
}

/** Ask about the photo that is shown once more, if the gallery has changed since. */
export function lookAgain() {
  if (current?.stale) ask(current);
}

/** Look at a file. */
export async function look(file) {
  byId("look-error").replaceChildren();
  const photo = await openPhoto(file, about.limits);
  const entry = { photo, answer: null, stale: false };
  await ask(entry);
}

async function ask(entry) {
  asking?.abort();
  asking = new AbortController();
  const { signal } = asking;
  if (current !== null && current !== entry && !seen.includes(current)) closePhoto(current.photo); // it came to nothing
  current = entry;
  showBusy(entry);
  try {
    entry.answer = await answers(entry.photo, signal);
  } catch (error) {
    if (error.name === "AbortError") return;
    return failed(entry, error);
  }
  entry.stale = false;
  remember(entry);
  show(entry);
}

/** All that the server can say of a photo; one refusal does not hide the other answer. */
async function answers(photo, signal) {
  const { gallery, predict, predict_faces: each } = about.can;
  const whole = predict && about.model.detector === "none"; // then the photo is the face, and there is nothing to find
  const where = gallery ? "v1/gallery/identify" : whole || each ? null : "v1/faces";
  const asked = [
    where && postForm(where, { photo }, signal),
    predict ? postForm(each ? "v1/predict/faces" : "v1/predict", { photo }, signal) : null,
    gallery ? learnAvatars().catch(() => null) : null, // without them there are letters
  ];
  const [found, predicted] = await Promise.allSettled(asked);
  const refused = [found, predicted].filter(({ status }) => status === "rejected").map(({ reason }) => reason);
  if (signal.aborted) throw new DOMException("another photo came", "AbortError");
  const answer = { found: found.value ?? null, predicted: predicted.value ?? null, refused: refused[0] ?? null };
  if (each && answer.predicted !== null) {
    answer.found = together(answer.found ?? answer.predicted, answer.predicted);
    answer.predicted = null;
  }
  if (answer.found === null && answer.predicted === null) throw answer.refused;
  return answer;
}

/** The faces that were found, each with what is predicted of it. */
function together(found, { faces }) {
  const whose = (face) => faces.reduce((best, one) => (overlap(one, face) > overlap(best, face) ? one : best), faces[0]);
  const met = (face, one) => (one !== undefined && overlap(one, face) > OVERLAP ? one : null);
  return { ...found, faces: found.faces.map((face) => ({ ...face, predicted: met(face, whose(face)) })) };
}

/** The share of two boxes that both hold. */
function overlap(a, b) {
  const side = (x, w) => Math.max(0, Math.min(a[x] + a[w], b[x] + b[w]) - Math.max(a[x], b[x]));
  const both = side("x", "w") * side("y", "h");
  return both / (a.w * a.h + b.w * b.h - both);
}

function showBusy({ photo }) {
  const size = sizeOf(photo);
  const findings = byId("look-findings");
  if (findings.contains(document.activeElement)) findings.focus(); // what has the focus goes away
  another();
  byId("look").classList.add("has-result");
  byId("look-result").hidden = false;
  byId("look-heat").replaceChildren();
  byId("look-stage").classList.add("working");
  showStage(byId("look-stage"), photo, { size, faces: [] });
  caption(photo, null);
  findings.replaceChildren(busyLine("Looking …"));
  announce("Looking");
}

function caption(photo, size) {
  const parts = [span("file-name", photo.name)];
  if (size !== null) parts.push(make("span", {}, `${count(size.width)} × ${count(size.height)} px`));
  if (size?.reduced > 1) parts.push(make("span", {}, `reduced to 1/${size.reduced} of its size`));
  if (size?.searched != null) parts.push(make("span", {}, `searched for faces from ${count(size.searched)} px on`));
  if (photo.note !== null) parts.push(span("sent-note", photo.note));
  byId("look-caption").replaceChildren(...parts);
}

function failed(entry, error) {
  byId("look-stage").classList.remove("working");
  byId("look-findings").replaceChildren();
  if (entry.photo.url === null || error.status === 401) hideResult();
  announce("");
  showHistory();
  showError(byId("look-error"), error, () => {
    byId("look-error").replaceChildren();
    ask(entry);
  });
}

function hideResult() {
  byId("look-result").hidden = true;
  byId("look").classList.remove("has-result");
}

function show(entry) {
  const { photo, answer } = entry;
  const { found, predicted, refused } = answer;
  current = entry;
  byId("look-stage").classList.remove("working");
  byId("look-heat").replaceChildren();
  byId("look-error").replaceChildren();
  if (refused !== null) showError(byId("look-error"), refused, () => ask(entry));
  const size = found ?? sizeOf(photo);
  const labelled = (face) => ({ ...face, label: labelOf(face, found), known: Boolean(face.person) });
  const faces = (found?.faces ?? []).map(labelled);
  const pick = { open: () => undefined };
  const select = showStage(byId("look-stage"), photo, { size, faces }, (number) => pick.open(number));
  caption(photo, found);

  const words = headline(answer);
  const findings = [make("h2", { class: "headline" }, words), ...remarks(answer)];
  if (predicted !== null) findings.push(classCard(photo, predicted, byId("look-heat")));
  if (faces.length > 0) {
    const { list, open } = faceList(photo, found, select, enrolling(entry));
    pick.open = open;
    findings.push(list);
    if (faces.length === 1) open(0);
  }
  byId("look-findings").replaceChildren(...findings);
  announce(words);
  showHistory();
}

function labelOf(face, { threshold }) {
  if (face.person) return face.person;
  if (face.matches === undefined && face.predicted) return answerLine(face.predicted);
  return face.matches !== undefined && threshold !== null ? "unknown" : null;
}

/** The answer in a few words. */
function headline({ found, predicted }) {
  if (found === null || (predicted !== null && !about.can.gallery)) return answerLine(predicted);
  const { faces, threshold } = found;
  if (faces.length === 0) return "No face was found";
  if (faces.length === 1 && faces[0].matches === undefined && faces[0].predicted) return answerLine(faces[0].predicted);
  if (faces[0].matches === undefined || threshold === null) return amount(faces.length, "face");
  if (faces.length === 1) return faces[0].person ?? "Unknown";
  const known = faces.filter((face) => face.person !== null).length;
  return `${amount(faces.length, "face")}, ${known === 0 ? "none" : count(known)} known`;
}

function remarks({ found }) {
  if (found === null) return [];
  if (found.faces.length === 0) return [note("Faces that are very small, turned away or covered are missed.")];
  if (about.gallery?.people === 0) return [note("The gallery is empty, so no face can be identified.")];
  if (found.threshold === null) {
    return [note("The gallery has no threshold, so no face is identified. Choose one in the Gallery tab.")];
  }
  if (["default", "model"].includes(found.threshold_source)) {
    const used = `a default is used, ${score(found.threshold)}`;
    return [note(`The gallery has no threshold of its own: ${used}. Choose one in the Gallery tab.`)];
  }
  return [];
}

/** What enrols a face of a photo, or null where that cannot be done. */
function enrolling({ photo, answer }) {
  const { found } = answer;
  if (!about.can.write || !about.can.gallery) return null;
  if (found.faces.length > 1 && photo.image === null) return null; // nothing to cut the face out of
  return async (number) => {
    const face = found.faces[number];
    const alone = found.faces.length === 1 && photo.note === null;
    const file = alone ? photo.sent : await faceFile(photo, face, found, number + 1);
    openEnrolment([file], nameOf(face, found.threshold) === face.person ? face.person : "");
  };
}

function remember(entry) {
  const place = seen.indexOf(entry);
  if (place >= 0) seen.splice(place, 1);
  seen.unshift(entry);
  for (const old of seen.splice(KEPT)) closePhoto(old.photo);
}

function showHistory() {
  const others = seen.filter((entry) => entry !== current && entry.photo.url !== null);
  byId("look-history").hidden = others.length === 0;
  const items = others.map((entry) => {
    const again = () => (entry.stale ? ask(entry) : show(entry));
    const words = headline(entry.answer);
    return make(
      "li",
      {},
      make(
        "button",
        { type: "button", class: "earlier", click: again, "aria-label": `${entry.photo.name}: ${words}` },
        make("img", { src: entry.photo.url, alt: "" }),
        make("span", {}, words),
      ),
    );
  });
  byId("look-history").querySelector("ul").replaceChildren(...items);
}
