// Tokens: a text as several tokenizers cut it, and the merges that lead there.
import { element, field, modelChoice, post, say, visible } from './page.js';

const MOST = 4;

export default async function tokens(page) {
  const text = element('textarea', { value: 'Hello, wörld! 12345 tokens 😀', 'aria-label': 'Text' });
  const choices = [['gpt2', true], ['cl100k', true]].map(([name, checked]) => ({ name, box: element('input', { type: 'checkbox', checked }) }));
  const own = await modelChoice('Tokenizer of a model', 'no model’s');
  const shown = element('div', { className: 'columns two', 'aria-live': 'polite' });
  const merges = element('section', { className: 'panel' });
  let newest = 0;
  const cut = async () => {
    const names = [...choices.filter(({ box }) => box.checked).map(({ name }) => name), ...(own.value ? [own.value] : [])].slice(0, MOST);
    const number = ++newest;
    if (!names.length) { shown.replaceChildren(); return; }
    try {
      const found = await post('/api/tokens', { text: text.value, tokenizers: names });
      if (number === newest) shown.replaceChildren(...found.map(column));
    } catch (error) { say(error.message); }
  };
  let waiting;
  text.addEventListener('input', () => { clearTimeout(waiting); waiting = setTimeout(cut, 250); });
  for (const { box } of choices) box.addEventListener('change', cut);
  own.addEventListener('change', cut);
  page.append(
    element('h1', { text: 'Tokens' }),
    element('section', { className: 'panel' }, text, element('div', { className: 'row' },
      ...choices.map(({ name, box }) => element('label', { className: 'check' }, box, name)), field('And the tokenizer of', own))),
    shown, merges);
  replay(merges);
  await cut();
}

function column({ name, vocabulary, tokens, failed }) {
  if (failed) return element('section', { className: 'panel' }, element('h2', { text: name }), element('p', { className: 'bad', text: failed }));
  const line = element('div', { className: 'tokens' }, ...tokens.map((token, index) => {
    const made = element('span', { className: 'token', text: token.text, title: `${token.id}: ${token.bytes}` });
    made.style.background = `color-mix(in srgb, var(--c${index % 6}) 28%, transparent)`;
    return made;
  }));
  const rows = tokens.map((token) => element('tr', {}, element('td', { className: 'number', text: token.id }), element('td', { text: visible(token.text) }),
    element('td', {}, element('code', { text: token.bytes })), element('td', { className: 'quiet', text: token.code_points })));
  return element('section', { className: 'panel' },
    element('h2', { text: `${name}: ${tokens.length} tokens, of ${vocabulary.toLocaleString()}` }), line,
    element('details', { open: tokens.length <= 24 }, element('summary', { text: 'Ids and bytes' }),
      element('div', { className: 'scroll' }, element('table', {}, element('tr', {}, ...['id', 'token', 'bytes', 'characters'].map((head) => element('th', { text: head }))), ...rows))));
}

// The merges of a short text, step by step.
function replay(section) {
  const text = element('input', { value: 'tokenization', maxLength: 100, 'aria-label': 'Text whose merges are replayed' });
  const which = element('select', {}, ...['gpt2', 'cl100k'].map((name) => element('option', { value: name, text: name })));
  const step = element('input', { type: 'range', min: 0, max: 0, value: 0 });
  const count = element('output', { text: '0' });
  const state = element('div', { className: 'tokens' });
  let chunks = [];
  const draw = () => {
    let left = Number(step.value);
    count.textContent = `${left} of ${step.max}`;
    state.replaceChildren(...chunks.flatMap((steps) => {
      const at = Math.min(left, steps.length - 1);
      left -= at;
      return steps[at].map(([id, piece], index) => {
        const made = element('span', { className: 'token', text: visible(piece), title: `token ${id}` });
        made.style.background = `color-mix(in srgb, var(--c${index % 6}) 28%, transparent)`;
        return made;
      });
    }));
  };
  const load = async () => {
    try {
      const found = await post('/api/merges', { text: text.value, tokenizer: which.value });
      if (found.failed) throw new Error(found.failed);
      ({ chunks } = found);
      step.max = chunks.reduce((sum, steps) => sum + steps.length - 1, 0);
      step.value = 0;
      draw();
    } catch (error) { say(error.message); }
  };
  step.addEventListener('input', draw);
  text.addEventListener('change', load);
  which.addEventListener('change', load);
  section.append(element('h2', { text: 'Merges, step by step' }),
    element('div', { className: 'row' }, field('Text', text), field('Tokenizer', which), field('Merges done', step, count)), state);
  load();
}
