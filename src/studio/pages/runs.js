// Runs: their curves as they train, samples, and new ones.
import { chart } from './chart.js';
import { element, field, get, post, say } from './page.js';

const EVERY = 2000; // milliseconds between questions
const CURVES = {
  loss: { title: 'Loss', y: 'nats per token', of: (line) => line.loss },
  rate: { title: 'Learning rate', y: 'learning rate', of: (line) => line.lr },
  norm: { title: 'Gradient norm', y: 'gradient norm', of: (line) => line.grad_norm },
  speed: { title: 'Tokens a second', y: 'tokens a second', of: (line) => line.tokens_per_second },
};

// What is logged of each run so far, by its name; kept while other pages are shown.
const logged = new Map();
let shown = null; // names of the runs whose curves are drawn
let current = null; // the run whose state and samples are shown
let awaited = null; // a run that was started here and is not in the list yet

async function update(run) {
  const known = logged.get(run) ?? { lines: [], next: 0, file: 0 };
  let news = 0;
  for (;;) {
    const answer = await get('/api/metrics', { run, from: known.next, file: known.file });
    if (answer.start) known.lines = [];
    const lines = answer.lines.split('\n').filter(Boolean);
    for (const line of lines) {
      try { known.lines.push(JSON.parse(line)); } catch { /* a line that a crash cut */ }
    }
    [known.next, known.file] = [answer.next, answer.file];
    news += lines.length;
    if (!lines.length) break;
  }
  logged.set(run, known);
  return news > 0;
}

// [x, line] of the logged steps and evaluations; x is the step or the seconds of training before it.
function places(run, lines, bySeconds) {
  let [before, seconds] = [0, 0];
  return lines.map((line) => {
    if (line.tokens_per_second) {
      seconds += ((line.step - before) * run.tokens_per_step) / line.tokens_per_second;
      before = line.step;
    }
    return [bySeconds ? seconds : line.step, line];
  });
}

function duration(seconds) {
  if (!Number.isFinite(seconds)) return '–';
  return seconds < 90 ? `${Math.round(seconds)} s` : seconds < 5400 ? `${Math.round(seconds / 60)} min` : `${(seconds / 3600).toFixed(1)} h`;
}

export default async function runs(page) {
  let list = [];
  const names = element('ul', { className: 'runs', 'aria-label': 'Runs' });
  const axis = element('select', {}, element('option', { value: 'step', text: 'steps' }), element('option', { value: 'seconds', text: 'seconds of training' }));
  const kind = element('select', {}, ...Object.entries(CURVES).map(([value, curve]) => element('option', { value, text: curve.title })));
  const picture = chart();
  const state = element('div', { className: 'panel' });
  const draw = () => {
    const { title, y, of } = CURVES[kind.value];
    const curves = [];
    list.filter((run) => shown.has(run.id)).forEach((run) => {
      const colour = `--c${list.indexOf(run) % 6}`;
      const points = places(run, logged.get(run.id)?.lines ?? [], axis.value === 'seconds');
      const short = run.id.replace(/^(runs|lessons)\//, '');
      curves.push({ name: short, colour, points: points.filter(([, line]) => of(line) !== undefined).map(([x, line]) => [x, of(line)]) });
      if (kind.value === 'loss') {
        curves.push({ name: `${short} validation`, colour, dashed: true, points: points.filter(([, line]) => line.val_loss).map(([x, line]) => [x, line.val_loss]) });
      }
    });
    picture.show({ title, x: axis.value === 'seconds' ? 'seconds' : 'step', y, curves });
  };
  const act = async (path, run, done) => {
    try {
      await post(path, { run });
      say(done);
      await tick(true);
    } catch (error) { say(error.message); }
  };
  const describe = async () => {
    const run = list.find((other) => other.id === current);
    if (!run && current !== null && current === awaited) {
      const { log } = await get('/api/log', { run: current });
      state.replaceChildren(element('h2', { text: current }), element('p', { text: 'It begins.' }), element('pre', { text: log }));
      return;
    }
    if (!run) {
      state.replaceChildren(element('p', { className: 'quiet', text: 'No run yet. Start one with the form, or with mlx-gpt train.' }));
      return;
    }
    const steps = (logged.get(run.id)?.lines ?? []).filter((line) => line.tokens_per_second);
    const last = steps.at(-1);
    const left = last && ((run.steps - last.step) * run.tokens_per_step) / last.tokens_per_second;
    const facts = [
      run.damaged ? `damaged: ${run.damaged}` : `step ${last?.step ?? run.saved ?? 0} of ${run.steps}`,
      last && `loss ${last.loss.toFixed(4)}`,
      run.best_loss && `best validation loss ${run.best_loss.toFixed(4)}`,
      last && `${Math.round(last.tokens_per_second)} tokens a second`,
      run.training ? `trains, ${duration(left)} left` : `last written ${duration(run.age)} ago`,
    ].filter(Boolean);
    const complete = (last?.step ?? run.saved) >= run.steps;
    const stop = element('button', { text: 'Stop and save', disabled: !run.training, click: () => act('/api/runs/stop', run.id, 'It saves and stops.') });
    const resume = element('button', { text: 'Resume', disabled: run.training || complete || Boolean(run.damaged), click: () => act('/api/runs/resume', run.id, 'It goes on.') });
    const [{ samples }, { log }] = await Promise.all([
      get('/api/samples', { run: run.id }).catch(() => ({ samples: [] })),
      get('/api/log', { run: run.id }).catch(() => ({ log: '' })),
    ]);
    const opened = state.querySelector('details')?.open ?? false;
    state.replaceChildren(
      element('h2', { text: run.id }),
      element('p', { text: facts.join(' · ') }),
      element('div', { className: 'row' }, stop, resume),
      ...samples.slice(-4).reverse().flatMap(({ step, text }) => [element('h3', { text: `Sample at step ${step}` }), element('pre', { text })]),
    );
    if (log) state.append(element('details', { open: opened }, element('summary', { text: 'What the training said' }), element('pre', { text: log })));
  };
  const fill = () => {
    names.replaceChildren(...list.map((run, index) => {
      const box = element('input', { type: 'checkbox', checked: shown.has(run.id), change: async () => {
        if (box.checked) { shown.add(run.id); current = run.id; } else shown.delete(run.id);
        await tick(true);
      } });
      const swatch = element('span', { className: 'swatch' });
      swatch.style.background = `var(--c${index % 6})`;
      const note = run.damaged ? 'damaged' : `${run.training ? 'trains' : `step ${run.saved ?? 0} of ${run.steps}`}${run.best_loss ? `, best ${run.best_loss.toFixed(3)}` : ''}`;
      const show = element('button', { text: 'show', 'aria-label': `show ${run.id}`, click: async () => { current = run.id; shown.add(run.id); await tick(true); } });
      return element('li', {}, element('label', { className: 'check' }, box, element('span', { className: 'name' }, swatch, run.id)), element('span', { className: 'quiet', text: `${note} ` }), show);
    }));
    if (!list.length) names.append(element('li', { className: 'quiet', text: 'none yet' }));
  };
  let ticks = 0;
  // New lines of the runs that are drawn; the list itself less often.
  async function tick(force) {
    if (document.hidden && !force) return;
    let changed = force === true;
    if (force || awaited || ticks % 3 === 0) {
      const before = JSON.stringify(list.map(({ age, ...rest }) => rest));
      ({ runs: list } = await get('/api/runs'));
      shown ??= new Set(list.slice(0, 1).map((run) => run.id));
      for (const run of list.filter((other) => other.training && !logged.has(other.id))) shown.add(run.id);
      if (list.some((run) => run.id === awaited)) awaited = null;
      else if (awaited) changed = true;
      if (!(awaited && current === awaited) && !list.some((run) => run.id === current)) current = list[0]?.id ?? null;
      if (force || before !== JSON.stringify(list.map(({ age, ...rest }) => rest))) { fill(); changed = true; }
    }
    ticks += 1;
    for (const run of list.filter((other) => shown.has(other.id) && (other.training || !logged.has(other.id) || force))) {
      changed = (await update(run.id)) || changed;
    }
    if (changed) { draw(); await describe(); }
  }
  axis.addEventListener('change', draw);
  kind.addEventListener('change', draw);
  page.append(
    element('h1', { text: 'Runs' }),
    element('div', { className: 'columns side' },
      element('section', { className: 'panel' }, element('h2', { text: 'All runs and lessons' }), names),
      element('div', { className: 'long' },
        element('section', { className: 'panel' }, element('div', { className: 'row' }, field('Curve', kind), field('Over', axis)), picture.element),
        state),
      form((id) => { current = id; awaited = id; shown.add(id); return tick(true); })));
  await tick(true);
  const timer = setInterval(() => tick(false).catch(() => {}), EVERY);
  return () => clearInterval(timer);
}

// The form that begins a training.
function form(started) {
  const text = element('textarea', { placeholder: 'Paste a text, or drop a file here. Empty: Shakespeare.', 'aria-label': 'Text to train on' });
  const facts = element('p', { className: 'quiet', role: 'status' });
  const file = element('input', { type: 'file', accept: '.txt,text/*', 'aria-label': 'A text file' });
  const name = element('input', { value: `mine-${new Date().toISOString().slice(0, 16).replace(/\D/g, '')}`, pattern: '[A-Za-z0-9_\\-]+', required: true, maxLength: 64 });
  const goal = element('select', {}, element('option', { value: 'minutes', text: 'the best model in these minutes' }),
    element('option', { value: 'nano', text: 'nano: 0.8 million parameters' }), element('option', { value: 'baby', text: 'baby: 10.7 million' }));
  const minutes = element('input', { type: 'number', min: 1, max: 1440, value: 10, required: true });
  const steps = element('input', { type: 'number', min: 1, max: 1000000, value: 2000, required: true });
  const needs = element('p', { className: 'quiet', role: 'status' });
  const asked = () => ({ text: text.value, ...(goal.value === 'minutes' ? { minutes: Number(minutes.value) } : { preset: goal.value, steps: Number(steps.value) }) });
  const lengths = [field('Minutes', minutes), field('Steps', steps)];
  const choose = () => {
    lengths[0].hidden = goal.value !== 'minutes';
    lengths[1].hidden = goal.value === 'minutes';
    needs.textContent = '';
  };
  goal.addEventListener('change', choose);
  choose();
  const estimate = async () => {
    needs.textContent = goal.value === 'minutes' ? 'Measuring this machine with the text, for up to half a minute…' : '';
    try {
      const found = await post('/api/needs', asked());
      const size = `${(found.parameters / 1e6).toFixed(2)} million parameters, ${Math.ceil(found.memory / 2 ** 20).toLocaleString()} MiB of memory`;
      needs.textContent = found.steps
        ? `${found.layers} layers of ${found.embd}, context ${found.context}: ${size}; about ${found.steps.toLocaleString()} steps, ${found.passes.toFixed(1)} passes over the text; expected validation loss ${found.loss.toFixed(2)} ± ${found.band.toFixed(2)}`
        : size;
    } catch (error) { needs.textContent = ''; say(error.message); }
  };
  const count = () => {
    const bytes = new TextEncoder().encode(text.value).length;
    const characters = new Set(text.value).size;
    facts.textContent = bytes ? `${bytes.toLocaleString()} bytes, ${characters} different characters; a tenth of it is kept for validation` : '';
  };
  const take = async (dropped) => { if (dropped) { text.value = await dropped.text(); count(); } };
  const drop = element('div', { className: 'drop' }, text, file, facts);
  drop.addEventListener('dragover', (event) => { event.preventDefault(); drop.classList.add('over'); });
  drop.addEventListener('dragleave', () => drop.classList.remove('over'));
  drop.addEventListener('drop', (event) => { event.preventDefault(); drop.classList.remove('over'); take(event.dataTransfer.files[0]); });
  file.addEventListener('change', () => take(file.files[0]));
  text.addEventListener('input', count);
  const submit = async (event) => {
    event.preventDefault();
    try {
      const { run } = await post('/api/runs', { name: name.value, ...asked() });
      say(`${run} begins to train; it goes on if this page or the server ends.`);
      await started(run);
    } catch (error) { say(error.message); }
  };
  return element('form', { className: 'panel', submit },
    element('h2', { text: 'New run' }), drop,
    element('div', { className: 'row' }, field('Name', name), field('Train', goal), ...lengths), needs,
    element('p', { className: 'row' }, element('button', { className: 'primary', text: 'Train' }), element('button', { type: 'button', text: 'What would it need?', click: estimate })));
}
