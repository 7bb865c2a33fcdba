// Dialogs: a sheet over the page that Esc closes, and the question before something that cannot be undone.

import { button, make } from "./dom.js";

/**
 * Open a sheet; its title has the focus first, so that it is read from there.
 * @param parts what stands under the title
 * @param closed called when it is gone
 * @returns the dialog
 */
export function openSheet({ title, kind = "", closed = null }, ...parts) {
  const dialog = make(
    "dialog",
    { class: `sheet ${kind}`, "aria-label": title },
    make("h2", { tabindex: -1, autofocus: true }, title),
    ...parts,
  );
  dialog.addEventListener("close", () => {
    dialog.remove();
    closed?.(dialog.returnValue);
  });
  document.body.append(dialog);
  dialog.showModal();
  return dialog;
}

export function actions(...buttons) {
  return make("div", { class: "actions" }, ...buttons);
}

/** @returns whether the person pressed the button that does it; Esc and Cancel do nothing */
export function confirmed(title, words, action) {
  return new Promise((done) => {
    const dialog = openSheet(
      { title, kind: "small-sheet", closed: (answer) => done(answer === "yes") },
      make("p", {}, words),
      actions(
        button("secondary", "Cancel", () => dialog.close()),
        button("danger", action, () => dialog.close("yes")),
      ),
    );
    dialog.setAttribute("role", "alertdialog");
  });
}
