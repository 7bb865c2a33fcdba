// A small image of an enrolled person: the stored crop, or else the first letter of the name.

import { get } from "./api.js";
import { make } from "./dom.js";

const MOST = 200; // people asked for at once; those behind them get their letter

let known = null; // name → number of the entry whose crop is shown; null: not asked since the gallery changed

/** Learn which people have a crop, once a state of the gallery. */
export async function learnAvatars() {
  if (known !== null) return;
  const { people } = await get("v1/gallery/people", { limit: MOST });
  known = new Map(people.map(({ person, crop }) => [person, crop]));
}

export function forgetAvatars() {
  known = null;
}

export function avatar(person, crop = known?.get(person) ?? null) {
  if (crop !== null) return make("img", { class: "avatar", src: cropAddress(crop), alt: "", loading: "lazy" });
  const [letter = "?"] = person.trim();
  return make("span", { class: "avatar letter", "aria-hidden": "true" }, letter.toUpperCase());
}

export const cropAddress = (number) => `v1/gallery/entries/${number}/crop`;
