// One answer on the page: its thinking, which folds, its text, and what became of it.

import { make, tell } from "/page/dom.js";

const ENDS = {
  length: "ended by length: there is no more room",
  timeout: "its time was over",
  failed: "the model's numbers were none",
};

export class Answer {
  // At the end of `log`.
  constructor(log, name) {
    this.content = "";
    this.thought = new Text();
    this.said = new Text();
    this.label = make("summary", { text: "Thinking" });
    this.thinking = make("details", { class: "thinking", open: "" }, this.label, prose(this.thought));
    this.thinking.hidden = true;
    this.status = make("p", { class: "about", role: "status" });
    this.label.addEventListener("click", () => { this.chosen = true; });
    const who = make("h3", { text: name });
    this.whole = make("article", { class: "answer", "aria-busy": "true" });
    this.whole.append(who, this.thinking, prose(this.said), this.status);
    log.append(this.whole);
  }

  // Takes a chunk of the stream.
  take(chunk) {
    const [choice] = chunk.choices;
    if (choice?.delta.reasoning_content) this.#think(choice.delta.reasoning_content);
    if (choice?.delta.content) this.#say(choice.delta.content);
    if (choice?.finish_reason) this.reason = choice.finish_reason;
    if (chunk.usage) this.usage = chunk.usage;
  }

  // Says why nothing comes just now; empty: it does.
  wait(words) {
    tell(this.status, words);
  }

  // It is whole.
  finish() {
    this.#end(cost(this.usage, ENDS[this.reason]));
  }

  // It is not, and will not become so; with `again` there is a button for another try.
  breakOff(words, again = null) {
    this.#end(words);
    this.whole.dataset.broken = "";
    if (again) this.whole.append(make("button", { type: "button", text: "Try again", on: again }));
  }

  #think(text) {
    this.thinking.hidden = false;
    this.began ??= performance.now();
    this.thought.appendData(text);
  }

  #say(text) {
    if (!this.content) this.#fold();
    this.content += text;
    this.said.appendData(text);
  }

  // Once the thinking is over, unless the reader has chosen to see it, or not to.
  #fold() {
    if (!this.began) return;
    const time_s = (performance.now() - this.began) / 1000;
    tell(this.label, `Thought for ${time_s.toFixed(1)} s`);
    if (!this.chosen) this.thinking.open = false;
  }

  #end(words) {
    tell(this.status, words);
    this.whole.removeAttribute("aria-busy");
  }
}

function prose(text) {
  const made = make("div", { class: "text" });
  made.append(text);
  return made;
}

function cost(usage, end) {
  const thought = usage?.completion_tokens_details?.reasoning_tokens;
  const cached = usage?.prompt_tokens_details?.cached_tokens;
  const told = usage && [
    `${usage.completion_tokens} tokens${thought ? `, ${thought} of them thinking` : ""}`,
    `prompt ${usage.prompt_tokens}${cached ? `, ${cached} of them known` : ""}`,
  ];
  return [...(told || []), ...(end ? [end] : [])].join("; ");
}
