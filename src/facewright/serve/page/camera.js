// One still from the camera. The camera is on only while its dialog is open.

import { make } from "./dom.js";
import { actions, openSheet } from "./sheet.js";

/** Browsers show the camera to pages from https or localhost only. */
export const cameraIsThere = () => Boolean(navigator.mediaDevices?.getUserMedia);

const WORDS = {
  NotAllowedError: "The browser may not use the camera. Allow it beside the address, then try again.",
  NotFoundError: "No camera was found.",
  NotReadableError: "The camera is in use by another program.",
};

/** @returns a JPEG file, or null where none was taken */
export function takePhoto() {
  const video = make("video", { autoplay: true, playsinline: true, class: "viewfinder" });
  video.muted = true;
  const problem = make("p", { class: "error", role: "alert", hidden: true });
  const shoot = make("button", { type: "button", class: "primary", disabled: true }, "Take the photo");
  const turn = make("button", { type: "button", class: "secondary", hidden: true }, "Other camera");
  const stop = make("button", { type: "button", class: "secondary" }, "Stop the camera");
  let dialog = null;
  let stream = null;
  let facing = "user";
  let taken = null;

  const off = () => stream?.getTracks().forEach((track) => track.stop());
  async function on() {
    off();
    try {
      const wanted = { facingMode: facing, width: { ideal: 1920 }, height: { ideal: 1080 } };
      stream = await navigator.mediaDevices.getUserMedia({ video: wanted, audio: false });
    } catch (error) {
      problem.textContent = WORDS[error.name] ?? `The camera cannot be used: ${error.message}`;
      problem.hidden = false;
      return;
    }
    if (!dialog.open) return off(); // it was closed while the browser asked
    video.srcObject = stream;
    video.classList.toggle("mirrored", facing === "user"); // as in a mirror; the photo is not turned
    const devices = await navigator.mediaDevices.enumerateDevices();
    turn.hidden = devices.filter((device) => device.kind === "videoinput").length < 2;
  }

  video.addEventListener("loadeddata", () => {
    shoot.disabled = false;
    shoot.focus();
  });
  turn.addEventListener("click", () => {
    facing = facing === "user" ? "environment" : "user";
    on();
  });
  stop.addEventListener("click", () => dialog.close());
  shoot.addEventListener("click", async () => {
    taken = await still(video);
    dialog.close();
  });
  return new Promise((done) => {
    const closed = () => {
      off();
      done(taken);
    };
    dialog = openSheet({ title: "Camera", kind: "wide-sheet", closed }, problem, video, actions(stop, turn, shoot));
    on();
  });
}

async function still(video) {
  const canvas = document.createElement("canvas");
  canvas.width = video.videoWidth;
  canvas.height = video.videoHeight;
  canvas.getContext("2d").drawImage(video, 0, 0);
  const blob = await new Promise((done) => canvas.toBlob(done, "image/jpeg", 0.95));
  const time = new Date().toTimeString().slice(0, 8).replaceAll(":", "-");
  return new File([blob], `camera-${time}.jpg`, { type: "image/jpeg" });
}
