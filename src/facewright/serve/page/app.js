// The page's beginning: ask the server what it can, and open the tabs that make sense with it.

import { about, refreshAbout, startAbout } from "./about.js";
import { startCompare, takePair } from "./compare.js";
import { byId } from "./dom.js";
import { enrol, refreshGallery, startGallery } from "./gallery.js";
import { acceptAnywhere } from "./intake.js";
import { look, lookAgain, startLook } from "./look.js";
import { startTabs } from "./tabs.js";

async function start() {
  try {
    await refreshAbout();
  } catch (error) {
    const place = byId("unreachable");
    place.textContent = error.message;
    place.hidden = false;
    return;
  }
  const { verify, gallery } = about.can;
  byId("tab-compare").hidden = !verify;
  byId("tab-gallery").hidden = !gallery;
  startAbout();
  startLook();
  if (verify) startCompare();
  if (gallery) startGallery();

  let open = "look";
  startTabs(document.querySelector("[role=tablist]"), (id) => {
    open = id;
    if (id === "gallery") refreshGallery();
    if (id === "look") lookAgain();
  });
  acceptAnywhere((files) => {
    if (open === "look") look(files[0]);
    else if (open === "compare") takePair(files);
    else enrol(files);
  });
  document.body.dataset.ready = "yes";
}

start();
