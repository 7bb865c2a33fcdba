// A photo as the person gave it. It is made smaller only where the server would refuse it, and then the page says so.

import { bytes, count } from "./words.js";

const QUALITY = 0.92; // of the JPEG that is sent in place of a photo over the limit
const STEP = 0.85; // of the sides, until the file is small enough
const ENVELOPE = 8192; // bytes of a request that are not the photo's, names among them
const AROUND = 0.6; // of a face's sides, on each side, where it is cut out to be enrolled

/**
 * Read a file.
 * @param limits the server's: pixels a photo, and bytes a request
 * @param together how many photos go in one request
 * @returns name; sent: what the server gets; url and image: what is seen, both null where the browser cannot show it;
 *   note: what was changed, or null
 */
export async function openPhoto(file, { pixels: most, bytes: all }, together = 1) {
  const limits = { pixels: most, bytes: Math.floor((all - ENVELOPE) / together) };
  const url = URL.createObjectURL(file);
  const image = new Image();
  image.src = url;
  try {
    await image.decode();
  } catch {
    URL.revokeObjectURL(url); // the server may know the format, or says why not
    return { name: file.name, sent: file, url: null, image: null, note: null };
  }
  const photo = { name: file.name, sent: file, url, image, note: null };
  const pixels = image.naturalWidth * image.naturalHeight;
  if (file.size > limits.bytes || pixels > limits.pixels) await shrink(photo, limits);
  return photo;
}

/** Width and height in px, upright; of a photo that cannot be shown only a likely shape. */
export function sizeOf({ image }) {
  return image === null ? { width: 4, height: 3 } : { width: image.naturalWidth, height: image.naturalHeight };
}

/** Let go of what the browser holds for a photo. */
export function closePhoto(photo) {
  if (photo.url !== null) URL.revokeObjectURL(photo.url);
}

async function shrink(photo, limits) {
  const { naturalWidth: width, naturalHeight: height } = photo.image;
  const why =
    photo.sent.size > limits.bytes
      ? `it has ${bytes(photo.sent.size)}, this server takes ${bytes(limits.bytes)} of it`
      : `it has ${count(width * height)} pixels, this server takes ${count(limits.pixels)}`;
  let scale = Math.min(1, Math.sqrt(limits.pixels / (width * height)));
  for (;;) {
    const side = (length) => Math.max(1, Math.floor(length * scale));
    const canvas = part(photo.image, [0, 0, width, height], side(width), side(height));
    const made = await new Promise((done) => canvas.toBlob(done, "image/jpeg", QUALITY));
    if (made === null) return; // too large for the browser: the server says why it refuses
    if (made.size <= limits.bytes || canvas.width === 1) {
      photo.sent = made;
      photo.note = `Sent as a JPEG of ${count(canvas.width)} × ${count(canvas.height)} px: ${why}.`;
      return;
    }
    scale *= STEP;
  }
}

/** A canvas with a part (x, y, w, h in px) of an image. */
function part(image, [x, y, w, h], width, height) {
  const canvas = document.createElement("canvas");
  canvas.width = width;
  canvas.height = height;
  const context = canvas.getContext("2d");
  context.imageSmoothingQuality = "high";
  context.drawImage(image, x, y, w, h, 0, 0, width, height);
  return canvas;
}

/**
 * A square image of a face.
 * @param size width and height in px of the photo that the box is of
 * @returns a canvas; an empty one where the browser cannot show the photo
 */
export function faceCanvas(photo, face, size, side) {
  if (photo.image === null) return document.createElement("canvas");
  const scale = photo.image.naturalWidth / size.width;
  const edge = 1.25 * Math.max(face.w, face.h);
  const [x, y] = [face.x + (face.w - edge) / 2, face.y + (face.h - edge) / 2];
  return part(photo.image, [x * scale, y * scale, edge * scale, edge * scale], side, side);
}

/** The face with some of what is around it, at full size, as a file of its own. */
export async function faceFile(photo, face, size, number) {
  const scale = photo.image.naturalWidth / size.width;
  const [left, top] = [Math.max(0, face.x - AROUND * face.w), Math.max(0, face.y - AROUND * face.h)];
  const right = Math.min(size.width, face.x + (1 + AROUND) * face.w);
  const bottom = Math.min(size.height, face.y + (1 + AROUND) * face.h);
  const [w, h] = [(right - left) * scale, (bottom - top) * scale];
  const canvas = part(photo.image, [left * scale, top * scale, w, h], Math.round(w), Math.round(h));
  const blob = await new Promise((done) => canvas.toBlob(done, "image/png"));
  return new File([blob], `${photo.name.replace(/\.[^.]*$/, "")}-face-${number}.png`, { type: "image/png" });
}
