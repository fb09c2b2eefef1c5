// Playground: tokens as they come, what else each could have been, and branches.
import { drawn } from './sampling.js';
import { element, field, modelChoice, opening, percent, say, shade, stream, visible } from './page.js';

const SHOWN = 12; // alternatives of a token

export default async function playground(page) {
  const prompt = element('textarea', { placeholder: 'Empty: as a text begins', 'aria-label': 'Prompt' });
  const slider = (min, max, step, value) => element('input', { type: 'range', min, max, step, value });
  const controls = {
    temperature: ['Temperature', slider(0, 2, 0.05, 1)],
    topK: ['Top-k (0: all)', slider(0, 50, 1, 0)],
    topP: ['Top-p', slider(0.05, 1, 0.05, 1)],
    minP: ['Min-p', slider(0, 0.5, 0.01, 0)],
  };
  const settings = () => Object.fromEntries(Object.entries(controls).map(([name, [, input]]) => [name, Number(input.value)]));
  const seed = element('input', { type: 'number', min: 0, value: 1 });
  const length = element('input', { type: 'number', min: 1, max: 512, value: 60 });
  const first = await modelChoice('Model');
  prompt.value = await opening(first.value, '', 6);
  const panes = [pane(first), pane(await modelChoice('Second model', 'no second model'))];
  const rows = Object.entries(controls).map(([, [label, input]]) => {
    const shown = element('output', { text: input.value });
    input.addEventListener('input', () => { shown.textContent = input.value; panes.forEach((each) => each.bars(settings())); });
    return field(label, input, shown);
  });
  const options = () => {
    const { temperature, topK, topP, minP } = settings();
    return { temperature, top_k: topK, top_p: topP, min_p: minP, seed: Number(seed.value), max_tokens: Number(length.value) };
  };
  const start = () => panes.forEach((each) => each.generate(prompt.value, options));
  page.append(
    element('h1', { text: 'Playground' }),
    element('form', { className: 'panel', submit: (event) => { event.preventDefault(); start(); } },
      prompt,
      element('div', { className: 'row' }, ...rows, field('Seed', seed), field('Tokens', length),
        element('button', { className: 'primary', text: 'Generate' }),
        element('button', { type: 'button', text: 'Stop', click: () => panes.forEach((each) => each.stop()) })),
      element('p', { className: 'quiet', text: 'Click a token to see what else it could have been; click one of those to go on from there. The sliders move the bars at once, and hold for what is generated next.' })),
    element('div', { className: 'columns two' }, ...panes.map((each) => each.section)));
  return () => panes.forEach((each) => each.stop());

  // One model's text.
  function pane(model) {
    const text = element('div', { className: 'tokens', 'aria-label': 'Generated text' });
    const alternatives = element('div', {});
    const section = element('section', { className: 'panel' }, field(model.getAttribute('aria-label'), model), text, alternatives);
    let [given, tokens, selected, aborter] = [[], [], null, null];
    const bars = (now) => {
      const token = tokens[selected];
      if (!token) { alternatives.replaceChildren(); return; }
      const shares = drawn(token.alternatives, now);
      const list = element('div', { className: 'bars' });
      token.alternatives.slice(0, SHOWN).forEach(([id, other, logprob], index) => {
        const bar = element('div', { className: 'bar' });
        bar.style.width = `${100 * shares[index]}%`;
        const branch = element('button', {
          type: 'button', text: visible(other), title: `token ${id}: go on from here`, 'aria-label': `go on with ${other}`,
          className: shares[index] ? '' : 'off', click: () => go([...tokens.slice(0, selected)], [id, other, logprob, token.alternatives]),
        });
        list.append(branch, bar, element('output', { text: percent(shares[index]) }));
      });
      const note = token.alternatives.length < vocabulary && now.temperature !== 1 && now.temperature !== 0
        ? ` Shares are of the ${token.alternatives.length} most likely tokens.` : '';
      alternatives.replaceChildren(
        element('h3', { text: `Token ${selected + 1}: ${visible(token.text)}, ${percent(Math.exp(token.logprob))} under the model` }),
        list, element('p', { className: 'quiet', text: note }));
    };
    let vocabulary = Infinity;
    const draw = () => {
      text.replaceChildren(
        ...given.map((token) => element('span', { className: 'quiet', text: token.text === '⏎' ? '⏎\n' : token.text })),
        ...tokens.flatMap((token, index) => {
          const made = element('button', {
            type: 'button', className: 'token', text: token.text, title: percent(Math.exp(token.logprob)),
            'aria-pressed': index === selected, click: () => { selected = index; draw(); bars(settings()); },
          });
          made.style.background = shade(Math.exp(token.logprob));
          return token.text.endsWith('⏎') ? [made, element('br')] : [made];
        }));
    };
    let asked = () => ({});
    async function go(kept, choice) {
      aborter?.abort();
      aborter = new AbortController();
      tokens = kept;
      if (choice) {
        const [id, other, logprob, of] = choice;
        tokens.push({ id, text: other, logprob, alternatives: of });
      }
      selected = choice ? tokens.length - 1 : null;
      draw();
      bars(settings());
      const start = given.length ? [...given, ...tokens].map((token) => token.id) : prompt.value;
      try {
        await stream('/api/generate', { model: model.value, prompt: start, ...asked() }, aborter.signal, (event) => {
          if (event.prompt) {
            vocabulary = event.vocabulary;
            if (!given.length) { given = event.prompt; draw(); }
          } else if (event.id !== undefined) {
            tokens.push(event);
            draw();
          }
        });
      } catch (error) {
        if (error.name !== 'AbortError') { text.append(element('p', { className: 'bad', text: error.message })); say(error.message); }
      }
    }
    return {
      section, bars,
      stop: () => aborter?.abort(),
      generate(_, options) {
        if (!model.value) return;
        asked = options;
        given = [];
        go([]);
      },
    };
  }
}
