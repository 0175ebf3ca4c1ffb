// One question to the chat endpoint, until its answer is whole.

import { Refused, call } from "/page/api.js";
import { Broken, objects } from "/page/sse.js";

const PATIENCE_MS = 600_000; // for a cluster to take requests again

// Asks, and hands each chunk to `answer`. While the cluster takes no requests it waits as long as
// that says, and asks again. Throws what `call` does, and Broken if half an answer came.
export async function talk(body, answer, signal) {
  const response = await patiently(body, answer, signal);
  answer.wait("");
  for await (const chunk of objects(response)) answer.take(chunk);
  if (!answer.reason) throw new Broken("the answer has no end");
}

async function patiently(body, answer, signal) {
  const ends = performance.now() + PATIENCE_MS;
  for (;;) {
    try {
      return await ask(body, signal);
    } catch (error) {
      if (!(error instanceof Refused) || error.retryS === null) throw error;
      if (performance.now() > ends) throw error;
      await countDown(error, answer, signal);
    }
  }
}

function ask(body, signal) {
  const headers = { "content-type": "application/json" };
  return call("/v1/chat/completions", { method: "POST", headers, body: JSON.stringify(body), signal });
}

async function countDown({ message, status, retryS }, answer, signal) {
  const what = status === 503 ? `The cluster is not ready: ${message}.` : `${message}.`;
  for (let left = Math.max(1, Math.ceil(retryS)); left > 0; left -= 1) {
    answer.wait(`${what} Asking again in ${left} s.`);
    await pause(1000, signal);
  }
  answer.wait(`${what} Asking again.`);
}

// Waits; throws AbortError if `signal` says so.
export function pause(timeMs, signal) {
  return new Promise((done, failed) => {
    const stop = () => failed(signal.reason);
    signal?.addEventListener("abort", stop, { once: true });
    setTimeout(() => {
      signal?.removeEventListener("abort", stop);
      done();
    }, timeMs);
  });
}
