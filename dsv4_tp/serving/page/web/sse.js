// Server-sent events from a fetch: EventSource can send neither a key nor a body.

const SILENCE_MS = 40_000; // the server says that it lives every 10 s

// A stream that ended too soon.
export class Broken extends Error {}

// What the promise gives, or Broken after so long.
export async function within(promise, limitMs = SILENCE_MS) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Broken("nothing came for too long")), limitMs);
  });
  try {
    return await Promise.race([promise, late]);
  } finally {
    clearTimeout(timer);
  }
}

// The data of whole lines, and the beginning of the next line. Comments are left out.
export function parse(text) {
  const lines = text.split("\n");
  const rest = lines.pop();
  const found = lines.filter((each) => each.startsWith("data: ")).map((each) => each.slice(6));
  return { found, rest };
}

// The objects of an answer until [DONE]. Throws Broken if there is none, or after a long silence,
// and what a stream tells of its failure.
export async function* objects(response, silenceMs = SILENCE_MS) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  try {
    for (;;) {
      const { value, done } = await within(reader.read(), silenceMs);
      if (done) throw new Broken("the connection ended before the answer did");
      const parsed = parse(rest + value);
      rest = parsed.rest;
      for (const data of parsed.found) {
        if (data === "[DONE]") return;
        yield object(data);
      }
    }
  } finally {
    reader.cancel().catch(() => {}); // it may have ended by itself
  }
}

function object(data) {
  const found = JSON.parse(data);
  if (found.error) throw new Broken(found.error.message);
  return found;
}
