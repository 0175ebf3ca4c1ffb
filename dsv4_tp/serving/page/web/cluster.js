// The cluster as people picture it: drawn anew at each look.

import { byId, make, tell } from "/page/dom.js";
import { line, memory, rate, ring, seconds, stepsOf } from "/page/figures.js";

const KEPT_LOOKS = 120; // about two minutes
const KEPT_EVENTS = 200;
const MOST_PLACES = 32; // that are drawn one by one

const looks = [];
const paces = [];

// Another stream begins: its events come from the beginning, and its clock may be another.
export function begin() {
  looks.length = 0;
  byId("events").replaceChildren();
}

// Shows a cluster as it is now.
export function show(now) {
  looks.push(now);
  if (looks.length > KEPT_LOOKS) looks.shift();
  const pace = rate(looks, (look) => look.totals.decode.tokens);
  showHead(now, pace);
  byId("coordinator").replaceChildren(...coordinator(now.totals));
  const ways = ring(now.hosts);
  const cards = now.hosts.flatMap((each, at) => withWay(host(each), ways[at]));
  byId("hosts").replaceChildren(...cards);
  byId("links").replaceChildren(...ways.map(wayLine));
  byId("figures").replaceChildren(...figures(now, pace));
  draw(pace);
}

// Nobody tells anything: what is shown is old.
export function showGone(words) {
  tell(byId("phase"), words);
  byId("phase").dataset.phase = "gone";
  tell(byId("rate"), "");
}

// Adds what happened, the newest first.
export function showEvents({ missed, events }) {
  const list = byId("events");
  if (missed) list.prepend(make("li", { text: `${missed} events are no longer kept` }));
  for (const each of events) list.prepend(eventLine(each));
  while (list.children.length > KEPT_EVENTS) list.lastChild.remove();
}

function showHead(now, pace) {
  document.title = `${now.name} · ${now.phase}`;
  tell(byId("name"), now.model);
  const again = now.restarts ? `, epoch ${now.epoch}` : "";
  tell(byId("phase"), `${now.phase}${again}`);
  byId("phase").dataset.phase = now.phase;
  tell(byId("rate"), `${pace.toFixed(1)} tokens/s`);
  byId("failure").hidden = !now.failure;
  const last = now.phase === "failed" ? "Failed" : "Last failure";
  tell(byId("failure"), now.failure && `${last}: ${now.failure}`);
}

function coordinator({ running, running_limit, waiting, waiting_limit }) {
  const drawn = Math.min(running_limit, MOST_PLACES);
  const places = Array.from({ length: drawn }, (_, at) =>
    make("i", { class: "place", "data-taken": at < running }),
  );
  return [
    make("strong", { text: "coordinator" }),
    make("span", { class: "places", "aria-hidden": "true" }, ...places),
    make("span", { text: `${running} of ${running_limit} running` }),
    make("span", { text: `${waiting} waiting, ${waiting_limit} may` }),
  ];
}

// A host, and the way to the next one if there is a next one.
function withWay(card, way) {
  return way ? [card, make("li", { class: "way", "data-state": way.state, "aria-hidden": "true" })] : [card];
}

function host(one) {
  const beat = one.up ? `spoke ${seconds(one.beat_age_s)} ago` : one.cause || "not there yet";
  return make(
    "li",
    { class: "host", "data-up": one.up },
    make("h3", { text: one.name }),
    make("p", { class: "beat", text: beat }),
    make("ol", { class: "ranks" }, ...one.ranks.map(rank)),
  );
}

function rank(one) {
  const { rank: number, phase, note } = one.report;
  const pace = rate(looks, stepsOf(number));
  return make(
    "li",
    { class: "rank", "data-phase": phase },
    make("strong", { text: `rank ${number}` }),
    make("span", { class: "doing", text: phase }),
    make("span", { class: "pace", text: `${pace.toFixed(1)} steps/s` }),
    bar(number, memory(one)),
    ...(note ? [make("p", { class: "note", text: note })] : []),
  );
}

function bar(number, { held, weights, planned, peak, text }) {
  const parts = Object.entries({ held, weights, peak, planned }).map(([name, share]) => {
    const part = make("i", { class: name });
    part.style.setProperty("--share", share);
    return part;
  });
  const percent = { "aria-valuemin": 0, "aria-valuemax": 100, "aria-valuenow": Math.round(100 * held) };
  const label = { "aria-label": `memory of rank ${number}`, "aria-valuetext": text };
  return make(
    "div",
    { class: "memory" },
    make("div", { class: "bar", role: "meter", ...percent, ...label }, ...parts),
    make("p", { text }),
  );
}

function wayLine({ from, to, state, text }) {
  return make(
    "li",
    { "data-state": state },
    make("span", { text: `${from} ⇄ ${to}` }),
    make("span", { text }),
  );
}

function figures(now, pace) {
  const { first_token_p50_s: half_s, first_token_p95_s: most_s, ended } = now.totals;
  const told = {
    "Tokens/s": pace.toFixed(1),
    "Prompt tokens/s": rate(looks, (look) => look.totals.prefill.tokens).toFixed(1),
    "Steps/s": rate(looks, (look) => look.totals.decode.steps).toFixed(1),
    "First token": half_s === null ? "none yet" : seconds(half_s),
    "95 of 100 within": most_s === null ? "none yet" : seconds(most_s),
    "Tokens so far": String(now.totals.generated),
    Ended: Object.entries(ended).map(([why, count]) => `${count} ${why}`).join(", ") || "none",
    Epoch: `${now.epoch}`,
  };
  return Object.entries(told).map(([name, value]) =>
    make("div", {}, make("dt", { text: name }), make("dd", { text: value })),
  );
}

function draw(pace) {
  paces.push(pace);
  if (paces.length > KEPT_LOOKS) paces.shift();
  byId("pace").firstElementChild.setAttribute("points", line(paces));
}

function eventLine({ time_s, kind, epoch, text }) {
  const clock = new Date(time_s * 1000).toLocaleTimeString([], { hour12: false });
  return make(
    "li",
    { "data-kind": kind },
    make("time", { text: clock }),
    make("span", { class: "kind", text: kind }),
    make("span", { text: `${text} (epoch ${epoch})` }),
  );
}
