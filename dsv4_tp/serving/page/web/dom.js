// Elements. Text is only ever set as text: what a model writes is never markup.

// The element of this page that has the id.
export function byId(id) {
  return document.getElementById(id);
}

// A new element: `attributes` by name, `text` its text, `on` what is done at a click.
export function make(tag, { text = "", on = null, ...attributes } = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  if (text) made.textContent = text;
  if (on) made.addEventListener("click", on);
  made.append(...children);
  return made;
}

// Sets a text that may be the same: what is read aloud is then not read again.
export function tell(element, text) {
  if (element.textContent !== text) element.textContent = text;
}
