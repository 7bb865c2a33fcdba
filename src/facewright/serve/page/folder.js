// Enrol a folder with a folder per person: every photo is a request of its own, and the progress is shown.

import { about } from "./about.js";
import { postForm } from "./api.js";
import { announce, button, make, showError } from "./dom.js";
import { closePhoto, openPhoto } from "./photo.js";
import { actions, openSheet } from "./sheet.js";
import { amount, count } from "./words.js";

const PHOTO = /\.(jpe?g|png|webp|bmp|gif|ppm|pgm|tiff?|avif|heic|heif)$/i;
const MOST_SHOWN = 100; // failures

/** The button that chooses a folder; null where the browser cannot. */
export function folderButton() {
  const chooser = make("input", { type: "file", webkitdirectory: true, multiple: true, hidden: true });
  if (!("webkitdirectory" in chooser)) return null;
  chooser.addEventListener("change", () => {
    const files = [...chooser.files];
    chooser.value = "";
    if (files.length) openFolder(files);
  });
  return make("span", { class: "for-mouse" }, button("secondary", "Enroll a folder", () => chooser.click()), chooser);
}

/** Files with the name of their folder, which is the person's; those that are hidden or no photos are left out. */
function photosOf(files) {
  return files
    .map((file) => ({ file, path: file.webkitRelativePath.split("/") }))
    .filter(({ path }) => PHOTO.test(path.at(-1)) && !path.some((part) => part.startsWith(".")))
    .map(({ file, path }) => ({ file, person: path.at(-2), shown: path.slice(1).join("/") }));
}

function openFolder(files) {
  const photos = photosOf(files);
  const people = new Set(photos.map(({ person }) => person)).size;
  const what = `${amount(people, "person", "people")}, ${amount(photos.length, "photo")}`;
  const state = make("p", { class: "note", role: "status" }, `${what}. Each folder's name is a person's.`);
  const bar = make("progress", { max: Math.max(1, photos.length), value: 0, "aria-label": "Photos enrolled" });
  const problem = make("div", { class: "errors", role: "alert" });
  const failures = make("ul", { class: "failures" });
  const start = button("primary", `Enroll ${amount(photos.length, "photo")}`, () => run(shown));
  const stop = button("secondary", "Close", () => dialog.close());
  const sums = { done: 0, enrolled: 0, already: 0, failed: 0 };
  const shown = { photos, state, bar, problem, failures, start, stop, sums, stopped: false };
  const closed = () => {
    shown.stopped = true;
    if (sums.enrolled > 0) document.dispatchEvent(new Event("gallery-changed"));
  };
  const dialog = openSheet(
    { title: "Enroll a folder", kind: "wide-sheet", closed },
    state, bar, problem, failures, actions(stop, start),
  );
  start.disabled = photos.length === 0;
}

async function run(shown) {
  const { photos, sums, start, stop, problem } = shown;
  problem.replaceChildren();
  start.hidden = true;
  stop.textContent = "Stop";
  while (sums.done < photos.length && !shown.stopped) {
    try {
      await enrolOne(shown, photos[sums.done]);
    } catch (error) {
      showError(problem, error, () => run(shown));
      break;
    }
    sums.done += 1;
    progress(shown);
  }
  stop.textContent = sums.done === photos.length ? "Done" : "Close";
  if (sums.done === photos.length) announce(shown.state.textContent);
}

async function enrolOne({ sums, failures }, { file, person, shown }) {
  const photo = await openPhoto(file, about.limits);
  try {
    const found = await postForm("v1/gallery/enroll", { person, photo });
    sums.enrolled += found.enrolled;
    sums.already += found.already;
    if (found.failed.length > 0) fail(sums, failures, `${shown}: ${found.failed[0].reason}`);
  } catch (error) {
    if (error.passing || error.status === 401 || error.status === 403) throw error; // as it would be with the next one
    fail(sums, failures, `${shown}: ${error.message}`);
  } finally {
    closePhoto(photo);
  }
}

function fail(sums, failures, words) {
  sums.failed += 1;
  if (sums.failed <= MOST_SHOWN) failures.append(make("li", {}, words));
}

function progress({ photos, sums, bar, state }) {
  bar.value = sums.done;
  const { enrolled, already, failed } = sums;
  state.textContent =
    `${count(sums.done)} of ${amount(photos.length, "photo")}: ` +
    `${count(enrolled)} enrolled, ${count(already)} already enrolled, ${count(failed)} failed`;
}
