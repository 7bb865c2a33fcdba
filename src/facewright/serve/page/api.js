// The server: one function a kind of request, and one kind of failure.

/** What the server refused, or that it could not be asked. */
class Refused extends Error {
  /** @param passing whether the same request may succeed later */
  constructor(status, code, message, passing) {
    super(message);
    Object.assign(this, { status, code, passing });
  }
}

const BUSY = [0, 408, 429, 503];

export const get = (path, query = {}, signal = undefined) => ask(withQuery(path, query), { signal });
export const remove = (path, query = {}) => ask(withQuery(path, query), { method: "DELETE" });

export function postJson(path, body) {
  return ask(path, { method: "POST", body: JSON.stringify(body), headers: { "Content-Type": "application/json" } });
}

/** Send fields: texts, and photos as `photo.js` opens them. Those without a value are left out. */
export function postForm(path, fields, signal = undefined) {
  const form = new FormData();
  for (const [name, value] of Object.entries(fields)) {
    if (value === null || value === undefined) continue;
    if (value.sent instanceof Blob) form.append(name, value.sent, value.name);
    else form.append(name, value);
  }
  return ask(path, { method: "POST", body: form, signal });
}

function withQuery(path, query) {
  const given = Object.entries(query).filter(([, value]) => value !== null && value !== "");
  return given.length ? `${path}?${new URLSearchParams(given)}` : path;
}

async function ask(path, options) {
  let response;
  try {
    response = await fetch(path, { credentials: "same-origin", redirect: "error", ...options });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Refused(0, "unreachable", "The server does not answer. Is it still running?", true);
  }
  const answer = await response.json().catch(() => null);
  if (response.ok && answer !== null) return answer;
  const told = answer?.error;
  const words = told?.message ?? `The server answered ${response.status} and said no more.`;
  throw new Refused(response.status, told?.code ?? "unknown", words, BUSY.includes(response.status));
}
