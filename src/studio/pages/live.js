// Figures of chapters with a slider for the number that the text varies. Each is computed in the page, but for the temperature, whose
// probabilities come from the learner's own model.
import { chart } from './chart.js';
import { element, field, get, opening, percent, stream, visible } from './page.js';
import { drawn } from './sampling.js';

// Normal random numbers, the same ones each time (mulberry32, Box and Muller).
function normals(seed) {
  const uniform = () => {
    seed = (seed + 0x6d2b79f5) | 0;
    let t = Math.imul(seed ^ (seed >>> 15), 1 | seed);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
  return () => Math.sqrt(-2 * Math.log(1 - uniform())) * Math.cos(2 * Math.PI * uniform());
}

function softmax(scores) {
  const most = Math.max(...scores);
  const weights = scores.map((score) => Math.exp(score - most));
  const sum = weights.reduce((a, b) => a + b, 0);
  return weights.map((weight) => weight / sum);
}

// A slider with what it says beside it; `each` is called with its value, at once and whenever it moves.
function slider(label, { min, max, step, value, shown = (n) => n }, each) {
  const said = element('output');
  const input = element('input', { type: 'range', min, max, step, value });
  const moved = () => { said.textContent = shown(Number(input.value)); each(Number(input.value)); };
  input.addEventListener('input', moved);
  return { control: field(label, input, said), moved };
}

function bars(names, shares) {
  return element('div', { className: 'bars' }, ...names.flatMap((name, index) => {
    const bar = element('div', { className: 'bar' });
    bar.style.width = `${100 * shares[index]}%`;
    return [element('span', { text: name }), bar, element('output', { text: percent(shares[index]) })];
  }));
}

// Day 4: what the division by the square root of the head size is for.
function scale() {
  const KEYS = 8;
  const random = normals(4);
  const vectors = Array.from({ length: KEYS + 1 }, () => Array.from({ length: 256 }, random));
  const shown = element('div');
  const divided = element('input', { type: 'checkbox', checked: true });
  const { control, moved } = slider('Head size D', { min: 1, max: 256, step: 1, value: 64 }, (size) => {
    const scores = vectors.slice(1).map((key) => {
      let sum = 0;
      for (let n = 0; n < size; n += 1) sum += vectors[0][n] * key[n];
      return divided.checked ? sum / Math.sqrt(size) : sum;
    });
    const weights = softmax(scores);
    const slope = weights.reduce((sum, p) => sum + p * (1 - p), 0);
    shown.replaceChildren(
      bars(scores.map((score, key) => `key ${key + 1}, score ${score.toFixed(2)}`), weights),
      element('p', { text: `largest weight ${percent(Math.max(...weights))}, slope ${slope.toFixed(3)}` }));
  });
  divided.addEventListener('change', moved);
  moved();
  return [element('p', { text: 'A random query and eight random keys: move the head size, with and without the division.' }),
    element('div', { className: 'row' }, control, element('label', { className: 'check' }, divided, 'divide by √D')), shown];
}

// Day 5: heads share the width.
function heads() {
  const [batch, context, width] = [32, 64, 64];
  const shown = element('p');
  const { control, moved } = slider('Heads, of a width of 64', { min: 0, max: 6, step: 1, value: 2, shown: (n) => 2 ** n }, (power) => {
    const [count, size] = [2 ** power, width / 2 ** power];
    shown.textContent = `Queries, keys and values are [B, H, T, D] = [${batch}, ${count}, ${context}, ${size}] each; weights are [B, H, T, T] = `
      + `[${batch}, ${count}, ${context}, ${context}], ${(batch * count * context * context).toLocaleString()} numbers. Products for the scores: B·H·T·T·D = `
      + `${(batch * count * context * context * size).toLocaleString()}, and parameters: 4·C² = ${(4 * width * width).toLocaleString()}, whatever H is.`;
  });
  moved();
  return [control, shown];
}

// Day 8: gradient descent and Adam on two numbers, one of which is a hundred times as steep.
function descent() {
  const STEPS = 60;
  const curvature = [1, 100];
  const loss = (p) => p.reduce((sum, x, n) => sum + 0.5 * curvature[n] * x * x, 0);
  const walk = (rate, adam) => {
    const [p, m, v] = [[2, 1], [0, 0], [0, 0]];
    const losses = [[0, loss(p)]];
    for (let t = 1; t <= STEPS; t += 1) {
      p.forEach((x, n) => {
        const g = curvature[n] * x;
        m[n] = 0.9 * m[n] + 0.1 * g;
        v[n] = 0.99 * v[n] + 0.01 * g * g;
        p[n] -= adam ? (rate * (m[n] / (1 - 0.9 ** t))) / (Math.sqrt(v[n] / (1 - 0.99 ** t)) + 1e-8) : rate * g;
      });
      losses.push([t, Math.max(1e-9, loss(p))]);
    }
    return losses.map(([t, value]) => [t, Math.log10(value)]);
  };
  const picture = chart();
  const { control, moved } = slider('Learning rate', { min: -3, max: 0, step: 0.05, value: -1.7, shown: (n) => (10 ** n).toPrecision(2) }, (power) => {
    const rate = 10 ** power;
    picture.show({ title: 'Loss of two numbers', x: 'step', y: 'log₁₀ of the loss', curves: [
      { name: 'gradient descent', colour: '--c1', points: walk(rate, false) }, { name: 'Adam', colour: '--c0', points: walk(rate, true) }] });
  });
  moved();
  return [element('p', { text: 'Two numbers, one with a hundred times the curvature of the other. Above a rate of 2/100 gradient descent diverges in the steep one; below, the flat one crawls. Adam moves both by about the rate.' }),
    control, picture.element];
}

// Day 9: the next token of the learner's own model.
async function temperature() {
  const { models } = await get('/api/models');
  const model = models.find(({ id }) => id === 'lessons/day-08') ?? models[0];
  if (!model) return [element('p', { className: 'quiet', text: 'With a model, this shows what it would say next at each temperature: mlx-gpt lesson 8' })];
  const prompt = await opening(model.id, '', 12);
  let alternatives = [];
  await stream('/api/generate', { model: model.id, prompt, max_tokens: 1, temperature: 0 }, undefined, (event) => {
    if (event.alternatives) ({ alternatives } = event);
  });
  if (!alternatives.length) return [];
  const shown = element('div');
  const { control, moved } = slider('Temperature', { min: 0, max: 2, step: 0.05, value: 1 }, (value) => {
    const shares = drawn(alternatives, { temperature: value, topK: 0, topP: 1, minP: 0 });
    shown.replaceChildren(bars(alternatives.slice(0, 10).map(([, text]) => visible(text)), shares));
  });
  moved();
  return [element('p', { text: `What ${model.id} would say after “${visible(prompt)}”:` }), control, shown];
}

const LIVE = { '4 scale.txt': scale, '5 cost.txt': heads, '8 adamw.txt': descent, '9 temperature.svg': temperature };

// What stands below a figure of a chapter, if it has a number to move.
export async function live(day, name) {
  const made = LIVE[`${day} ${name}`];
  return made ? [element('div', { className: 'live', role: 'group', 'aria-label': `Try it: ${name.split('.')[0]}` }, ...await made())] : [];
}
