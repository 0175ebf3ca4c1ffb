// Calls to the coordinator, with a key where one is wanted. It is kept in this tab only.

import { byId, tell } from "/page/dom.js";
import { Broken, within } from "/page/sse.js";

const KEY = "dsv4-tp-key";

// An answer that is none; `retryS` says when to ask again, null if that would change nothing.
export class Refused extends Error {
  constructor(message, status, retryS) {
    super(message);
    this.status = status;
    this.retryS = retryS;
  }
}

// The answer to a call, as soon as it begins. Throws Refused, Broken if nobody is there, and
// AbortError if `signal` says so.
export async function call(path, options = {}) {
  for (;;) {
    const key = sessionStorage.getItem(KEY);
    const response = await reached(path, options, key);
    if (response.ok) return response;
    if (response.status !== 401) throw await refusal(response);
    await another(key);
  }
}

async function reached(path, options, key) {
  const shown = key ? { authorization: `Bearer ${key}` } : {};
  const headers = { ...options.headers, ...shown };
  try {
    return await within(fetch(path, { ...options, headers }));
  } catch (error) {
    if (error instanceof TypeError) throw new Broken("the coordinator cannot be reached");
    throw error;
  }
}

async function refusal(response) {
  const body = await response.json().catch(() => null);
  const message = body?.error?.message ?? `the server answered ${response.status}`;
  const after = response.headers.get("retry-after");
  return new Refused(message, response.status, after === null ? null : Number(after));
}

let asking = null; // the one dialog, for all calls that wait for it

// Waits for another key than this one, which has not opened the door.
async function another(key) {
  if (sessionStorage.getItem(KEY) !== key) return;
  asking ??= askForKey(key ? "That key is not known here." : "");
  await asking;
}

function askForKey(fault) {
  const [dialog, field] = [byId("key"), byId("secret")];
  tell(byId("key-fault"), fault);
  field.value = "";
  dialog.oncancel = (event) => event.preventDefault(); // nothing works without
  dialog.showModal();
  return new Promise((done) => {
    const submitted = (event) => {
      event.preventDefault();
      sessionStorage.setItem(KEY, field.value.trim());
      dialog.close();
      asking = null;
      done();
    };
    dialog.addEventListener("submit", submitted, { once: true });
  });
}
