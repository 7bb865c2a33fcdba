// A question before something that cannot be undone.

import { make } from "./dom.js";

/** @returns whether the person pressed the button that does it; Esc and Cancel do nothing */
export function confirmed(title, words, action) {
  const dialog = make(
    "dialog",
    { class: "sheet small-sheet", role: "alertdialog", "aria-labelledby": "confirm-title", "aria-describedby": "confirm-words" },
    make("h2", { id: "confirm-title" }, title),
    make("p", { id: "confirm-words" }, words),
    make(
      "div",
      { class: "actions" },
      make("button", { type: "button", class: "secondary", autofocus: true, click: () => dialog.close() }, "Cancel"),
      make("button", { type: "button", class: "danger", click: () => dialog.close("yes") }, action),
    ),
  ); // prettier-ignore
  document.body.append(dialog);
  dialog.showModal();
  return new Promise((done) => {
    dialog.addEventListener("close", () => {
      dialog.remove();
      done(dialog.returnValue === "yes");
    });
  });
}
