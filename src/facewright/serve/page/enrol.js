// Enrol photos of one person: who, which, and what became of each. Every photo is a request of its own, so that one
// which cannot be used holds up none of the others.

import { about } from "./about.js";
import { postForm } from "./api.js";
import { announce, button, make, showError, span } from "./dom.js";
import { acceptDrops, intake } from "./intake.js";
import { closePhoto, openPhoto } from "./photo.js";
import { actions, openSheet } from "./sheet.js";
import { amount } from "./words.js";

const POOR = 0.2; // quality, as in faces/quality.py

/**
 * Open the dialog.
 * @param files photos that wait already
 * @param person the name that stands there already; "" for none
 * @param known names to suggest
 */
export function openEnrolment(files, person, known = []) {
  const shown = dialogOf(person, known);
  const { dialog, form, waiting } = shown;
  const add = async (more) => {
    for (const file of more) waiting.push(await staged(shown, file));
    update(shown);
  };
  const { zone } = intake({
    title: { mouse: "Drop photos of this person here", touch: "Add photos of this person" },
    hint: "Or paste or choose them",
    camera: "Use the camera",
    many: true,
    taken: add,
  });
  form.querySelector(".place").append(zone);
  acceptDrops(dialog, add);
  dialog.addEventListener("paste", (event) => {
    event.stopPropagation();
    add([...(event.clipboardData?.files ?? [])]);
  });
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    enrolAll(shown);
  });
  if (person === "") shown.name.focus();
  add(files);
}

function dialogOf(person, known) {
  const quiet = { autocomplete: "off", spellcheck: "false" };
  const name = make("input", { id: "enrol-name", required: true, list: "enrol-known", value: person, ...quiet });
  const list = make("ul", { class: "staged" });
  const submit = make("button", { type: "submit", class: "primary" }, "Enroll");
  const problem = make("div", { class: "errors", role: "alert" });
  const close = button("secondary", "Close");
  const form = make(
    "form",
    {},
    make("label", { class: "field", for: "enrol-name" }, "Name"),
    name,
    make("datalist", { id: "enrol-known" }, ...known.map((value) => make("option", { value }))),
    make("div", { class: "place" }),
    list, problem,
    actions(close, submit),
  );
  const shown = { form, name, list, submit, close, problem, waiting: [], changed: false };
  const closed = () => {
    shown.waiting.forEach(({ photo }) => closePhoto(photo));
    if (shown.changed) document.dispatchEvent(new Event("gallery-changed"));
  };
  shown.dialog = openSheet({ title: "Enroll a person", kind: "wide-sheet", closed }, form);
  close.addEventListener("click", () => shown.dialog.close());
  return shown;
}

/** A photo in the list, with a place for what becomes of it. */
async function staged(shown, file) {
  const photo = await openPhoto(file, about.limits);
  const state = span("state sub", photo.note ?? "");
  const image = photo.url === null ? span("no-crop", "No preview") : make("img", { src: photo.url, alt: "" });
  const leave = button("link", "Remove", null, { "aria-label": `Remove ${photo.name}` });
  const item = make("li", {}, image, span("entry-words", span("file-name", photo.name), state), leave);
  const one = { photo, item, state, leave, done: false };
  leave.addEventListener("click", () => {
    shown.waiting.splice(shown.waiting.indexOf(one), 1);
    closePhoto(photo);
    item.remove();
    update(shown);
  });
  shown.list.append(item);
  return one;
}

function update({ waiting, submit, close }) {
  const open = waiting.filter(({ done }) => !done).length;
  submit.disabled = open === 0;
  submit.hidden = open === 0 && waiting.length > 0;
  submit.textContent = open === 0 ? "Enroll" : `Enroll ${amount(open, "photo")}`;
  close.textContent = submit.hidden ? "Done" : "Close";
  close.className = submit.hidden ? "primary" : "secondary";
  if (submit.hidden) close.focus();
}

async function enrolAll(shown) {
  const person = shown.name.value.trim();
  shown.problem.replaceChildren();
  if (person === "") return;
  shown.submit.disabled = true;
  const sums = { enrolled: 0, already: 0, failed: 0 };
  for (const one of shown.waiting.filter(({ done }) => !done)) {
    tell(one, "working", "Enrolling …");
    try {
      const found = await postForm("v1/gallery/enroll", { person, photo: one.photo });
      settle(shown, one, found);
      sums.enrolled += found.enrolled;
      sums.already += found.already;
      sums.failed += found.failed.length;
    } catch (error) {
      if (error.passing || error.status === 401 || error.status === 403) {
        tell(one, "", "");
        showError(shown.problem, error, () => enrolAll(shown)); // it would be the same with the next one
        break;
      }
      settle(shown, one, { photos: [], failed: [{ reason: error.message }] });
      sums.failed += 1;
    }
  }
  update(shown);
  announce(summary(person, sums));
}

const summary = (person, { enrolled, already, failed }) =>
  `${person}: ${amount(enrolled, "photo")} enrolled, ${already} already enrolled, ${failed} failed`;

function settle(shown, one, { photos, failed }) {
  one.done = true; // asked again, the answer would be the same
  one.leave.hidden = true;
  if (failed.length > 0) return tell(one, "bad", failed[0].reason);
  const [{ number, message, quality }] = photos;
  if (number === null) return tell(one, "", "Already enrolled");
  shown.changed = true;
  const notes = [qualityNote(quality), message].filter((note) => note);
  tell(one, "good", ["Enrolled", ...notes].join("; "));
}

/** The quality of a face in words; what lowers a poor one. */
function qualityNote(quality) {
  if (!quality) return "";
  const said = `quality ${quality.value.toFixed(2)}`;
  if (quality.value >= POOR) return said;
  const reasons = { size: "small", sharpness: "blurred", pose: "turned away" };
  const [worst] = Object.keys(reasons).filter((name) => quality[name] === quality.value);
  return `${said} (${reasons[worst]}): add a better photo`;
}

function tell({ state }, kind, words) {
  state.className = `state sub ${kind}`;
  state.textContent = words;
}
