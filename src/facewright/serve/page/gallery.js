// The third tab: who is enrolled; find, open, enrol, delete.

import { about, refreshAbout } from "./about.js";
import { get } from "./api.js";
import { avatar, forgetAvatars } from "./avatars.js";
import { announce, button, byId, make, showError, span } from "./dom.js";
import { openEnrolment } from "./enrol.js";
import { folderButton } from "./folder.js";
import { intake } from "./intake.js";
import { startLookup } from "./lookup.js";
import { openPerson } from "./person.js";
import { showThreshold } from "./threshold.js";
import { amount, count } from "./words.js";

const AT_ONCE = 60; // people
const FEW = 3; // photos of a person, as in gallery/editing.py
const PAUSE = 200; // ms without a key before a search is asked

let asking = null;
let next = null; // the name after which more people come
let known = []; // names that are shown, for the enrolment's suggestions

/** Set the tab up. */
export function startGallery() {
  const search = byId("gallery-search").querySelector("input");
  let waiting = null;
  search.addEventListener("input", () => {
    clearTimeout(waiting);
    waiting = setTimeout(() => showPeople(), PAUSE);
  });
  byId("gallery-more").addEventListener("click", () => showPeople(next));
  if (about.can.write) {
    byId("gallery-actions").hidden = false;
    const folder = folderButton();
    if (folder !== null) byId("gallery-actions").prepend(folder);
    byId("gallery-enrol").addEventListener("click", () => enrol([]));
    const { zone } = intake({
      title: { mouse: "Drop photos of one person here to enroll them", touch: "Choose photos to enroll a person" },
      hint: "Or choose them; their name is asked next",
      camera: null,
      many: true,
      taken: enrol,
    });
    byId("gallery-intake").append(zone);
  }
  startLookup(showFound);
  document.addEventListener("gallery-changed", refreshGallery);
}

/** The result of a search by photo takes the place of the list, or leaves it. */
function showFound(found) {
  for (const id of ["gallery-search", "gallery-people", "gallery-more", "gallery-empty"]) {
    byId(id).classList.toggle("replaced", found);
  }
}

/** Enrol files of one person, whose name is asked. */
export function enrol(files) {
  if (about.can.write) openEnrolment(files, "", known);
}

/** Show the gallery as it is now. */
export async function refreshGallery() {
  forgetAvatars();
  try {
    await refreshAbout();
  } catch (error) {
    return showError(byId("gallery-error"), error, refreshGallery);
  }
  const { people, entries } = about.gallery;
  byId("gallery-count").textContent = `${amount(people, "person", "people")}, ${amount(entries, "photo")}`;
  byId("gallery-advice").replaceChildren(...about.gallery.advice.map((line) => make("li", {}, line)));
  byId("gallery-search").hidden = people === 0;
  byId("gallery-photo").hidden = people === 0;
  byId("gallery").classList.toggle("no-people", people === 0);
  showThreshold(changedThreshold);
  await showPeople();
}

async function changedThreshold() {
  await refreshAbout();
  document.dispatchEvent(new Event("gallery-changed"));
}

/** @param after show more people behind this name; from the first where null */
async function showPeople(after = null) {
  asking?.abort();
  asking = new AbortController();
  const like = byId("gallery-search").querySelector("input").value.trim();
  let found;
  try {
    found = await get("v1/gallery/people", { after, limit: AT_ONCE, like }, asking.signal);
  } catch (error) {
    if (error.name !== "AbortError") showError(byId("gallery-error"), error, () => showPeople(after));
    return;
  }
  byId("gallery-error").replaceChildren();
  const cards = found.people.map(card);
  if (after === null) {
    known = [];
    replacePeople(cards);
  } else {
    byId("gallery-people").append(...cards);
    cards[0]?.querySelector("button").focus();
  }
  known.push(...found.people.map(({ person }) => person));
  next = found.next;
  byId("gallery-more").hidden = next === null;
  showEmptiness(found.total, like);
}

/** The focus stays on the same person, or goes to the tab's beginning where that one is gone. */
function replacePeople(cards) {
  const list = byId("gallery-people");
  const held = list.contains(document.activeElement) ? document.activeElement.dataset.person : null;
  list.replaceChildren(...cards);
  if (held === null) return;
  const buttons = [...list.querySelectorAll("button")];
  (buttons.find((button) => button.dataset.person === held) ?? byId("gallery")).focus();
}

function showEmptiness(total, like) {
  const place = byId("gallery-empty");
  place.hidden = total > 0;
  const more = about.can.write ? "A few photos of each person are enough." : "This server is read-only.";
  place.textContent = like === "" ? `The gallery is empty. ${more}` : `No name contains "${like}".`;
  if (like !== "") announce(total === 0 ? "None found" : `${count(total)} found`);
}

function card({ person, entries, crop }) {
  const marks = { "data-person": person, "aria-haspopup": "dialog" };
  const open = button("person", avatar(person, crop), () => openPerson(person), marks);
  open.append(span("person-name", person), span("sub", amount(entries, "photo")));
  if (entries < FEW && about.can.write) open.append(span("sub few", `Add ${FEW - entries} more`));
  return make("li", {}, open);
}
