// What all pages share: elements, requests, messages.

// An element with properties (text, attributes with a dash or `aria`/`role`/`for`/`class`, listeners as functions) and children.
export function element(tag, properties = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (typeof value === 'function') made.addEventListener(name, value);
    else if (name === 'text') made.textContent = value;
    else if (name in made && !name.includes('-')) made[name] = value;
    else made.setAttribute(name, value);
  }
  made.append(...children);
  return made;
}

let fading;
export function say(text) {
  const message = document.getElementById('message');
  message.textContent = text;
  message.hidden = false;
  clearTimeout(fading);
  fading = setTimeout(() => { message.hidden = true; }, 8000);
}

const token = document.querySelector('meta[name=studio-token]').content;

async function answered(response) {
  if (response.ok) return response;
  let reason;
  try {
    reason = (await response.json()).error.message;
  } catch {
    reason = `the server answered ${response.status}`;
  }
  throw new Error(reason);
}

export async function get(path, parameters = {}) {
  const query = new URLSearchParams(parameters).toString().replaceAll('+', '%20');
  return (await answered(await fetch(query ? `${path}?${query}` : path))).json();
}

function send(path, body, signal) {
  const headers = { 'content-type': 'application/json', 'x-studio-token': token };
  return fetch(path, { method: 'POST', headers, body: JSON.stringify(body), signal });
}

export async function post(path, body) {
  return (await answered(await send(path, body))).json();
}

// Calls `each` with every event of a stream, until it ends or `signal` aborts it.
export async function stream(path, body, signal, each) {
  const reader = (await answered(await send(path, body, signal))).body.getReader();
  const decoder = new TextDecoder();
  let rest = '';
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    rest += decoder.decode(value, { stream: true });
    const lines = rest.split('\n\n');
    rest = lines.pop();
    for (const line of lines) {
      const event = JSON.parse(line.slice('data: '.length));
      if (event.error) throw new Error(event.error.message);
      each(event);
    }
  }
}

// A choice among the models, with their steps.
export async function modelChoice(label, none) {
  const { models } = await get('/api/models');
  const select = element('select', { 'aria-label': label });
  if (none) select.append(element('option', { value: '', text: none }));
  for (const model of models) {
    select.append(element('option', { value: model.id, text: model.id }));
    for (const step of model.steps.slice(0, -1).reverse()) {
      const id = `${model.id}/step-${String(step).padStart(6, '0')}`;
      select.append(element('option', { value: id, text: `  at step ${step} of ${model.id}` }));
    }
  }
  if (!models.length && !none) select.append(element('option', { value: '', text: 'no model yet: start a run' }));
  return select;
}

export function field(label, control, after) {
  const made = element('label', { text: `${label} ` });
  made.append(element('br'), control);
  if (after) made.append(' ', after);
  return made;
}

// The shade of a share between 0 and 1.
export const shade = (share) => `rgba(var(--shade), ${(0.08 + 0.62 * Math.max(0, Math.min(1, share))).toFixed(3)})`;

export const percent = (share) => `${(100 * share).toFixed(share < 0.1 ? 2 : 1)} %`;

// What a token looks like in a line of text.
export const visible = (text) => text.replace(/^ +/, (blanks) => '␣'.repeat(blanks.length));

// A text that the model can surely read: the beginning of one that it wrote.
export async function opening(model, otherwise, most) {
  try {
    const { samples } = await get('/api/samples', { run: model.split('/').slice(0, 2).join('/') });
    return samples.at(-1)?.text.trim().slice(0, most) || otherwise;
  } catch {
    return otherwise;
  }
}
