// A photo with a box around each face. The labels keep clear of all faces, and of each other, or shrink to a number.

import { make, span } from "./dom.js";
import { amount } from "./words.js";

const GAP = 6; // px between a box and its label
const WHOLE = 0.97; // a box of this share of the photo's sides is the photo: no line is drawn around it

/**
 * Show a photo.
 * @param faces boxes x, y, w, h in px of the photo; label: the words of each, null for the number alone; known: whether
 *   the face has a name; `size` width and height in px that the boxes are of
 * @param picked called with the number of a box, from 0, that was clicked
 * @returns select(number): mark a box, none for null
 */
export function showStage(place, photo, { size, faces }, picked = null) {
  const image =
    photo.url === null
      ? make("div", { class: "no-image" }, "The browser cannot show this kind of photo; the server could read it.")
      : make("img", { src: photo.url, alt: altText(photo.name, faces.length), draggable: "false" });
  const layer = make("div", { class: "boxes", "aria-hidden": "true" }); // the list beside it says the same in words
  const frame = make("div", { class: "frame" }, image, layer);
  frame.style.setProperty("--ratio", String(size.width / size.height));
  place.replaceChildren(frame);

  const shown = faces.map((face, number) => {
    const box = make("div", { class: face.known ? "box known" : "box" });
    if (Math.min(face.w / size.width, face.h / size.height) >= WHOLE) box.classList.add("whole");
    setBox(box, face, size);
    const name = face.label === null ? [] : [span("label-name", face.label)];
    const label = make("div", { class: "label" }, span("label-number", String(number + 1)), ...name);
    for (const part of [box, label]) part.addEventListener("click", () => picked?.(number));
    layer.append(box, label);
    return { box, label, face };
  });
  watchSize(frame, () => placeLabels(frame, shown));
  return (number) => shown.forEach(({ box, label }, index) => {
    for (const part of [box, label]) part.classList.toggle("selected", index === number);
  });
}

const altText = (name, faces) => (faces === 0 ? name : `${name}, with ${amount(faces, "face")} outlined`);

function setBox(box, face, size) {
  box.style.left = `${(100 * face.x) / size.width}%`;
  box.style.top = `${(100 * face.y) / size.height}%`;
  box.style.width = `${(100 * face.w) / size.width}%`;
  box.style.height = `${(100 * face.h) / size.height}%`;
}

/** Call at once and whenever the element changes its size; ends with the element. */
export function watchSize(element, changed) {
  new ResizeObserver(changed).observe(element);
}

function placeLabels(frame, shown) {
  const area = { left: 0, top: 0, right: frame.clientWidth, bottom: frame.clientHeight };
  const taken = shown.map(({ box }) => rectangle(box.offsetLeft, box.offsetTop, box.offsetWidth, box.offsetHeight));
  const largestFirst = shown.map((_, number) => number).sort((a, b) => shown[b].face.w - shown[a].face.w);
  for (const number of largestFirst) {
    const { label } = shown[number];
    label.classList.remove("small", "crowded");
    const spot = freeSpot(taken[number], label, taken, area) ?? shrunk(taken[number], label, taken, area);
    label.style.left = `${spot.left}px`;
    label.style.top = `${spot.top}px`;
    taken.push(spot);
  }
}

/** Where a label fits whole: over the box, under it, beside it; null where nowhere. */
function freeSpot(box, label, taken, area) {
  const [w, h] = [label.offsetWidth, label.offsetHeight];
  const [over, under] = [box.top - h - GAP, box.bottom + GAP];
  const columns = [(box.left + box.right - w) / 2, box.left, box.right - w, box.right - w / 4, box.left - (3 * w) / 4];
  const inside = (left) => Math.min(Math.max(left, area.left + 2), area.right - w - 2);
  const places = [
    ...columns.map((left) => [inside(left), over]),
    ...columns.map((left) => [inside(left), under]),
    ...[box.top, (box.top + box.bottom - h) / 2, box.bottom - h].flatMap((top) => [
      [box.right + GAP, top],
      [box.left - w - GAP, top],
    ]),
  ];
  const spots = places.map(([left, top]) => rectangle(left, top, w, h));
  return spots.find((spot) => within(spot, area) && !taken.some((other) => overlap(spot, other))) ?? null;
}

/** The number alone: where it is free, else on the corner of its own box. */
function shrunk(box, label, taken, area) {
  label.classList.add("small");
  const [w, h] = [label.offsetWidth, label.offsetHeight];
  const free = freeSpot(box, label, taken, area);
  if (free !== null) return free;
  label.classList.toggle("crowded", box.right - box.left < 2 * w); // it would hide the face: seen when selected
  return rectangle(
    Math.min(Math.max(box.left - w / 2, area.left), area.right - w),
    Math.min(Math.max(box.top - h / 2, area.top), area.bottom - h),
    w, h,
  );
}

const rectangle = (left, top, width, height) => ({ left, top, right: left + width, bottom: top + height });
const within = (inner, outer) =>
  inner.left >= outer.left && inner.top >= outer.top && inner.right <= outer.right && inner.bottom <= outer.bottom;
const overlap = (a, b) => a.left < b.right && b.left < a.right && a.top < b.bottom && b.top < a.bottom;
