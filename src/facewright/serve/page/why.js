// Heat maps: what the server found, beside the photo as the network is shown it.

import { make } from "./dom.js";

/**
 * Pictures with their heat, and a switch to see them without.
 * @param sides each with name, overlay and photo (data addresses of images)
 * @param cold, hot what the ends of the colours stand for
 */
export function heatFigure(sides, words, cold, hot) {
  const images = sides.map(({ name, overlay, photo }) => {
    const over = make("img", { src: imageAddress(overlay), alt: `Heat map on ${name}` });
    const plain = make("img", { src: imageAddress(photo), alt: `${name} as the network is shown it`, hidden: true });
    return { over, plain };
  });
  const box = make("input", { type: "checkbox", checked: true });
  box.addEventListener("change", () => {
    for (const { over, plain } of images) {
      over.hidden = !box.checked;
      plain.hidden = box.checked;
    }
  });
  return make(
    "figure",
    { class: "heat" },
    make("div", { class: "heat-images" }, ...images.map(({ over, plain }) => make("div", {}, over, plain))),
    make("figcaption", {}, words),
    make("p", { class: "scale" }, cold, make("span", { class: "colours", "aria-hidden": "true" }), hot),
    make("label", { class: "switch" }, box, "Show the heat"),
  );
}

/** Return the address if it is that of an image, whatever the server sends. */
function imageAddress(address) {
  return address.startsWith("data:image/png;base64,") ? address : null;
}
