// What the server is and can do, and the dialog that tells it.

import { get } from "./api.js";
import { button, byId, make, note } from "./dom.js";
import { actions, openSheet } from "./sheet.js";
import { amount, bytes, count, rate, score, target } from "./words.js";

/** What `/v1/about` said last; null before it was asked. */
export let about = null;

export async function refreshAbout() {
  about = await get("v1/about");
  return about;
}

export function startAbout() {
  const opener = byId("about-button");
  opener.disabled = false;
  opener.addEventListener("click", openAbout);
}

function openAbout() {
  const rows = facts().flatMap(([name, value]) => [make("dt", {}, name), make("dd", {}, value)]);
  const close = button("primary", "Close", () => dialog.close());
  const dialog = openSheet(
    { title: "About this server" },
    make("dl", { class: "facts" }, ...rows),
    note("The same as an API: ", make("a", { href: "openapi.json" }, "openapi.json")),
    actions(close),
  );
}

const DETECTORS = {
  dlib: "found by dlib's detector",
  yunet: "found by YuNet",
  none: "none: the whole image is one face",
};
const RUNTIMES = { pytorch: "PyTorch", onnx: "ONNX Runtime" };

function facts() {
  const { model, threshold, limits, version, gallery } = about;
  const told = [
    ["Model", `${model.name}, on ${RUNTIMES[model.runtime] ?? model.runtime}`],
    ["Faces", DETECTORS[model.detector] ?? model.detector],
    ["Input size", `${model.input.width} × ${model.input.height} px`],
  ];
  if (model.classes?.length) told.push(["Classes", count(model.classes.length)]);
  if (threshold !== null) {
    const most = `for a max. false-accept rate of ${target(threshold.far_target)}`;
    told.push(["Threshold", `${score(threshold.value)}, ${most}`]);
    told.push(["False-accept rate", `${rate(threshold.far)} impostor pairs`], ["Chosen on", threshold.data]);
  }
  if (gallery !== null) {
    told.push(["Gallery", `${amount(gallery.entries, "photo")} of ${amount(gallery.people, "person", "people")}`]);
  }
  told.push(["Max. image", `${bytes(limits.bytes)} and ${count(limits.pixels)} pixels`]);
  told.push(["Fingerprint", model.fingerprint], ["Facewright", version]);
  return told;
}
