// The conversation: what was said so far, and the answer that is on its way.

import { Answer } from "/page/answer.js";
import { byId, make } from "/page/dom.js";
import { talk } from "/page/talk.js";

const NEAR_PX = 80; // of the end: who reads there is kept there
const RESTARTS = "The ranks start again. The answer goes on when they are back.";

let said = []; // messages, as the endpoint takes them
let model = "the model";
let ready = true;
let current = null; // the answer on its way, and what stops it

// Makes the form work.
export function start() {
  const words = byId("words");
  byId("ask").addEventListener("submit", (event) => {
    event.preventDefault();
    send(words);
  });
  words.addEventListener("keydown", (event) => {
    const sends = event.key === "Enter" && !event.shiftKey && !event.isComposing;
    if (!sends) return;
    event.preventDefault();
    send(words);
  });
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape" && !byId("key").open) stop();
  });
  byId("stop").addEventListener("click", stop);
  byId("anew").addEventListener("click", anew);
}

// The cluster is like this now.
export function hear(cluster) {
  model = cluster.model;
  const was = ready;
  ready = cluster.phase === "ready" || cluster.phase === "draining";
  if (ready !== was && current?.answer.whole.isConnected) current.answer.wait(ready ? "" : RESTARTS);
}

function send(field) {
  const content = field.value.trim();
  if (!content || current) return;
  field.value = "";
  for (const old of byId("log").querySelectorAll("button")) old.remove(); // of answers before
  said.push({ role: "user", content });
  byId("log").append(
    make("article", { class: "question" }, make("h3", { text: "You" }), make("p", { text: content })),
  );
  reply();
}

function stop() {
  current?.stopping.abort();
}

function anew() {
  stop();
  said = [];
  byId("log").replaceChildren();
  byId("words").focus();
}

// Has the conversation so far answered.
async function reply() {
  const asked = said;
  current = { answer: new Answer(byId("log"), model), stopping: new AbortController() };
  const { answer, stopping } = current;
  const following = follow(byId("log"));
  busy(true);
  try {
    await talk(body(asked), answer, stopping.signal);
    answer.finish();
  } catch (error) {
    end(answer, error, stopping.signal);
  } finally {
    following.disconnect();
    current = null;
    busy(false);
  }
  asked.push({ role: "assistant", content: answer.content });
}

function end(answer, error, signal) {
  if (signal.aborted) return answer.breakOff("Stopped.");
  const again = (event) => {
    event.target.remove();
    said.splice(said.findLastIndex((each) => each.role === "user") + 1);
    reply();
  };
  return answer.breakOff(`It broke off: ${error.message}.`, again);
}

function body(messages) {
  return {
    messages: messages.filter((each) => each.content), // one that was stopped early says nothing
    stream: true,
    stream_options: { include_usage: true },
    ...(byId("think").checked ? {} : { thinking: { type: "disabled" } }),
  };
}

function busy(is) {
  byId("stop").hidden = !is;
  byId("send").hidden = is;
  if (document.activeElement === document.body) byId("words").focus(); // the button is gone
}

// Keeps the end in sight as the log grows, while its reader is near it.
function follow(log) {
  const toEnd = () => { log.scrollTop = log.scrollHeight; };
  toEnd();
  const observer = new MutationObserver(() => {
    if (log.scrollHeight - log.scrollTop - log.clientHeight < NEAR_PX) toEnd();
  });
  observer.observe(log, { childList: true, subtree: true, characterData: true });
  return observer;
}
