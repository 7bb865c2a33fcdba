// Where photos come in: a button that opens the files, takes what is dropped on it, and a camera beside it.

import { cameraIsThere, takePhoto } from "./camera.js";
import { button, make, span } from "./dom.js";

/**
 * A drop zone.
 * @param title: its words, for a mouse and for touch; hint: more words for a mouse; camera: the label of the camera's
 *   button, null for none; many: more than one file
 * @param taken called with an array of files, never an empty one
 * @returns zone: the element; pressed: the button; retitle(words): other words on it
 */
export function intake({ title, hint, camera, many, taken }) {
  const chooser = make("input", { type: "file", accept: "image/*", multiple: many, hidden: true });
  const titles = ["mouse", "touch"].map((by) => span(`zone-title for-${by}`, title[by]));
  const pressed = make(
    "button",
    { type: "button", class: "zone", click: () => chooser.click() },
    ...titles,
    span("zone-hint for-mouse", hint),
  );
  chooser.addEventListener("change", () => {
    const files = [...chooser.files];
    chooser.value = ""; // the same file may be chosen again
    if (files.length) taken(files);
  });
  const zone = make("div", { class: "zone-frame" }, pressed, chooser);
  if (camera !== null && cameraIsThere()) {
    const still = async () => {
      const file = await takePhoto();
      if (file !== null) taken([file]);
    };
    zone.append(button("secondary camera", camera, still));
  }
  acceptDrops(zone, taken);
  const retitle = (words) => titles.forEach((part) => part.replaceChildren(words));
  return { zone, pressed, retitle };
}

/** Let files be dropped on an element, and show that they may be. */
export function acceptDrops(element, taken) {
  let depth = 0; // dragenter and dragleave come for children, too
  const over = (change) => {
    depth = change === 0 ? 0 : Math.max(0, depth + change);
    element.classList.toggle("over", depth > 0);
  };
  element.addEventListener("dragenter", () => over(1));
  element.addEventListener("dragleave", () => over(-1));
  element.addEventListener("drop", (event) => {
    over(0);
    const files = [...event.dataTransfer.files];
    event.preventDefault();
    event.stopPropagation();
    if (files.length) taken(files);
  });
}

/** A file dropped or pasted anywhere goes to the open tab; the browser never leaves the page for it. */
export function acceptAnywhere(taken) {
  addEventListener("dragover", (event) => event.preventDefault());
  addEventListener("drop", (event) => {
    event.preventDefault();
    const files = [...event.dataTransfer.files];
    if (files.length) taken(files);
  });
  addEventListener("paste", (event) => {
    const files = [...(event.clipboardData?.files ?? [])];
    if (files.length) taken(files);
  });
}
