// One enrolled person: the photos, and deleting one or all of them.

import { about } from "./about.js";
import { get, remove } from "./api.js";
import { cropAddress } from "./avatars.js";
import { announce, busyLine, button, make, showError, span } from "./dom.js";
import { openEnrolment } from "./enrol.js";
import { actions, confirmed, openSheet } from "./sheet.js";
import { amount } from "./words.js";

const GONE = "Vector and crop are erased from the server's files. This is for good.";

/** Open the dialog of a person. */
export function openPerson(person) {
  const entries = make("ul", { class: "entries" });
  const problem = make("div", { class: "errors", role: "alert" });
  const number = make("p", { class: "note" });
  const close = button("secondary", "Close", () => dialog.close());
  const buttons = actions(close);
  const dialog = openSheet({ title: person, kind: "wide-sheet" }, number, problem, entries, buttons);
  const shown = { person, dialog, entries, problem, number };
  if (about.can.write) {
    const more = () => {
      dialog.close();
      openEnrolment([], person);
    };
    buttons.prepend(
      button("danger quiet", "Delete this person", () => deletePerson(shown)),
      button("secondary", "Add photos", more),
    );
  }
  return showEntries(shown);
}

async function showEntries(shown) {
  const { person, entries, problem, number } = shown;
  if (!entries.firstChild) number.replaceChildren(busyLine("Loading …"));
  try {
    const found = await get("v1/gallery/entries", { person });
    number.textContent = amount(found.entries.length, "photo");
    entries.replaceChildren(...found.entries.map((entry) => row(shown, entry)));
  } catch (error) {
    number.replaceChildren();
    showError(problem, error, () => showEntries(shown));
  }
}

function row(shown, entry) {
  const image = entry.crop
    ? make("img", { src: cropAddress(entry.number), alt: "", loading: "lazy" })
    : span("no-crop", "No crop kept");
  const tags = Object.entries(entry.metadata).map(([key, value]) => span("tag", `${key} ${value}`));
  const file = entry.photo.split(/[\\/]/).at(-1); // photos that were enrolled on the command line have their folders
  const words = span("entry-words", make("span", { class: "file-name", title: entry.photo }, file), ...tags);
  const item = make("li", {}, image, words);
  if (about.can.write) {
    const label = `Delete ${entry.photo}`;
    item.append(button("link bad", "Delete", () => deleteEntry(shown, entry), { "aria-label": label }));
  }
  return item;
}

async function deleteEntry(shown, { number, photo }) {
  const last = shown.entries.children.length === 1;
  const title = last ? `Delete the last photo of ${shown.person}?` : `Delete ${photo}?`;
  if (!(await confirmed(title, GONE, "Delete for good"))) return;
  try {
    await remove(`v1/gallery/entries/${number}`);
  } catch (error) {
    return showError(shown.problem, error);
  }
  document.dispatchEvent(new Event("gallery-changed"));
  announce(`${photo} is deleted`);
  if (last) shown.dialog.close();
  else await showEntries(shown);
}

async function deletePerson({ person, dialog, problem, entries }) {
  const photos = amount(entries.children.length, "photo");
  if (!(await confirmed(`Delete ${person}?`, `${photos}. ${GONE}`, "Delete for good"))) return;
  try {
    await remove("v1/gallery/people", { person });
  } catch (error) {
    return showError(problem, error);
  }
  dialog.close();
  document.dispatchEvent(new Event("gallery-changed"));
  announce(`${person} is deleted`);
}
