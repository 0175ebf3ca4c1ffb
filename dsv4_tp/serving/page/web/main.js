// Follows the cluster for ever, and lets people talk with it.

import { call } from "/page/api.js";
import * as chat from "/page/chat.js";
import * as cluster from "/page/cluster.js";
import { objects } from "/page/sse.js";
import { pause } from "/page/talk.js";

const SILENCE_MS = 12_000; // there is a look every second
const AGAIN_MS = 2_000;

async function follow() {
  const stopping = new AbortController();
  try {
    const response = await call("/v2/cluster/events", { signal: stopping.signal });
    cluster.begin();
    for await (const told of objects(response, SILENCE_MS)) take(told);
    cluster.showGone("ended");
  } catch (error) {
    cluster.showGone(`no news: ${error.message}`);
  } finally {
    stopping.abort();
  }
}

function take(told) {
  if (told.events) cluster.showEvents(told);
  if (!told.cluster) return;
  cluster.show(told.cluster);
  chat.hear(told.cluster);
}

chat.start();
for (;;) {
  await follow();
  await pause(AGAIN_MS);
}
