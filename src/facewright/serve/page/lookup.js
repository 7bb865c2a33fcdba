// Search the gallery by a photo: the people by their similarity to its largest face, above the threshold or not.

import { about } from "./about.js";
import { postForm } from "./api.js";
import { avatar, learnAvatars } from "./avatars.js";
import { announce, busyLine, button, byId, make, showError, span } from "./dom.js";
import { openPerson } from "./person.js";
import { closePhoto, faceCanvas, openPhoto } from "./photo.js";
import { amount, score } from "./words.js";

const MOST = 20; // people
const SIDE = 112; // px of the face

/** @param changed called with whether the result takes the place of the list of names */
export function startLookup(changed) {
  const chooser = make("input", { type: "file", accept: "image/*", hidden: true });
  const open = button("secondary", "Search by photo", () => chooser.click());
  chooser.addEventListener("change", async () => {
    const [file] = chooser.files;
    chooser.value = "";
    if (file) await lookUp(file, changed);
  });
  byId("gallery-photo").append(open, chooser);
}

async function lookUp(file, changed) {
  const place = byId("gallery-found");
  const again = () => lookUp(file, changed);
  byId("gallery-error").replaceChildren();
  changed(true);
  place.replaceChildren(busyLine("Searching …"));
  const photo = await openPhoto(file, about.limits);
  try {
    const [found] = await Promise.all([postForm("v1/gallery/identify", { photo, top_k: MOST }), learnAvatars()]);
    place.replaceChildren(...result(photo, found, changed));
  } catch (error) {
    leave(changed);
    showError(byId("gallery-error"), error, again);
  } finally {
    closePhoto(photo);
  }
}

function result(photo, found, changed) {
  const back = button("secondary", "Show everybody", () => leave(changed));
  const largest = found.faces.toSorted((a, b) => b.w * b.h - a.w * a.h)[0];
  if (largest === undefined) {
    announce("No face was found");
    return [make("p", { class: "empty" }, `No face was found in ${photo.name}.`), back];
  }
  const crop = faceCanvas(photo, largest, found, SIDE);
  crop.classList.add("crop");
  crop.setAttribute("aria-hidden", "true");
  const which = found.faces.length === 1 ? "the face" : `the largest of ${amount(found.faces.length, "face")}`;
  const title = make("h2", { tabindex: -1 }, `Nearest matches of ${which} in ${photo.name}`);
  const list = largest.matches.map((match) => card(match, found.threshold));
  announce(`${amount(list.length, "person", "people")}, the nearest first`);
  setTimeout(() => title.focus());
  return [make("div", { class: "found-head" }, crop, title, back), make("ul", { class: "people" }, ...list)];
}

function card({ person, score: value }, threshold) {
  const open = button("person", avatar(person), () => openPerson(person), { "aria-haspopup": "dialog" });
  const same = threshold === null ? "" : value >= threshold ? ", match" : ", no match";
  open.append(span("person-name", person), span("sub", `${score(value)}${same}`));
  return make("li", {}, open);
}

function leave(changed) {
  byId("gallery-found").replaceChildren();
  changed(false);
}
