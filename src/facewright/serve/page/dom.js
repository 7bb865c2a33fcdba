// Elements are made here and nowhere from text: a name with markup in it stays a name.

const SVG = "http://www.w3.org/2000/svg";

/** An element. A function among the attributes listens to that event; null, undefined and false leave one out. */
export function make(tag, attributes = {}, ...children) {
  return filled(document.createElement(tag), attributes, children.flatMap(breakable));
}

/** Let text wrap after _, not inside the words of a name, as in the reports. */
function breakable(child) {
  if (typeof child !== "string") return [child];
  return child.split(/(?<=_)/).flatMap((part, place) => (place ? [document.createElement("wbr"), part] : [part]));
}

/** The same for a drawing. */
export function draw(tag, attributes = {}, ...children) {
  return filled(document.createElementNS(SVG, tag), attributes, children);
}

function filled(made, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === "function") made.addEventListener(name, value);
    else if (value === true) made.setAttribute(name, "");
    else if (value !== false && value !== null && value !== undefined) made.setAttribute(name, String(value));
  }
  made.append(...children.filter((child) => child !== null)); // strings become text
  return made;
}

/** What is made most: words of a kind, a remark, a button with what it does. */
export const span = (kind, ...children) => make("span", { class: kind }, ...children);
export const note = (words) => make("p", { class: "note" }, words);
export const button = (kind, words, click = null, more = {}) =>
  make("button", { type: "button", class: kind, ...(click === null ? {} : { click }), ...more }, words);

export const byId = (id) => document.getElementById(id);

/** Tell who listens to the page rather than seeing it. */
export function announce(words) {
  byId("status").textContent = words;
}

/** A line that says that something is being done. */
export function busyLine(words) {
  return make("p", { class: "busy" }, make("span", { class: "spinner", "aria-hidden": "true" }), words);
}

/** Show why something failed in the server's own words, and what can be done: again, or the token once more. */
export function showError(place, error, again = null) {
  const line = make("p", { class: "error" }, make("span", {}, error.message));
  if (error.status === 401) {
    line.append(button("link", "Sign in again", () => location.reload()));
  } else if (again !== null && error.passing) {
    line.append(button("link", "Try again", again));
  }
  place.replaceChildren(line);
}
