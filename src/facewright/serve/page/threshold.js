// The gallery's threshold: the lowest score that counts as known, and how to choose it.

import { about } from "./about.js";
import { postJson } from "./api.js";
import { announce, busyLine, byId, make, showError } from "./dom.js";
import { amount, score, target } from "./words.js";

const TARGETS = [0.1, 0.01, 0.001];

/** Show the state; `changed` is called after another threshold was chosen. */
export function showThreshold(changed) {
  const place = byId("gallery-threshold");
  place.hidden = about.gallery.entries === 0;
  const words = make("div", { class: "known-words" }, make("h2", {}, "Threshold"), ...state());
  place.replaceChildren(words);
  if (about.can.write) place.append(chooser(changed));
}

function state() {
  const { threshold, people, entries } = about.gallery;
  if (threshold === null) {
    return [make("p", {}, "No threshold is set: a conservative default decides, where one is known.")];
  }
  const share = target(threshold.fpir_target);
  const from = `A face is identified if its score is at least ${score(threshold.value)}.`;
  const lines = [make("p", {}, `${from} Max. false-positive identification rate: ${share}.`)];
  if (threshold.few_people) {
    const on = amount(threshold.people, "person", "people");
    lines.push(make("p", { class: "warning" }, `Chosen on ${on}: too few to know that rate well.`));
  }
  if (threshold.people !== people || threshold.entries !== entries) {
    const then = `${amount(threshold.entries, "photo")} of ${amount(threshold.people, "person", "people")}`;
    lines.push(make("p", { class: "warning" }, `Chosen when the gallery held ${then}; recalibrate.`));
  }
  return lines;
}

function chooser(changed) {
  const asked = about.gallery.threshold?.fpir_target ?? 0.01;
  const offered = TARGETS.includes(asked) ? TARGETS : [asked, ...TARGETS];
  const options = offered.map((share) => make("option", { value: share, selected: share === asked }, target(share)));
  const choice = make("select", {}, ...options);
  const told = make("div", { class: "told", role: "alert" });
  const words = about.gallery.threshold === null ? "Choose a threshold" : "Recalibrate";
  const submit = make("button", { type: "submit", class: "secondary" }, words);
  const form = make(
    "form",
    { class: "chooser" },
    make("label", {}, "Max. FPIR ", choice),
    submit,
    told,
  );
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    submit.disabled = true;
    told.replaceChildren(busyLine("Comparing all people …"));
    try {
      const { threshold, warning } = await postJson("v1/gallery/calibrate", { fpir: Number(choice.value) });
      await changed();
      announce(`The threshold is ${score(threshold.value)}. ${warning ?? ""}`);
    } catch (error) {
      submit.disabled = false;
      showError(told, error);
    }
  });
  return form;
}
