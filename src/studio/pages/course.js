// Course: the days, what is done, and their chapters with this machine's figures.
import { blocks } from './markdown.js';
import { live } from './live.js';
import { element, get, say } from './page.js';

export default async function course(page) {
  const { days } = await get('/api/course');
  const list = element('ul', { className: 'days' });
  const shown = element('article', { className: 'panel chapter' }, element('p', { className: 'quiet', text: 'Choose a day.' }));
  const open = async (day) => {
    for (const button of list.querySelectorAll('button')) button.setAttribute('aria-pressed', button.value === String(day.day));
    try {
      const chapter = await get(`/api/course/${day.day}`);
      const parts = await Promise.all(chapter.sections.map(async (section) => [...show(day, section), ...await live(day.day, section.name)]));
      shown.replaceChildren(typing(day), ...parts.flat());
      shown.scrollIntoView({ block: 'nearest' });
    } catch (error) { say(error.message); }
  };
  list.append(...days.map((day) => {
    const done = day.computed === day.figures && day.models.every((model) => model.val_loss !== null);
    const written = day.right === null || !day.exercises ? '' : ` · ${day.right} of ${day.exercises} exercises right`;
    const state = done ? 'done' : day.computed ? `${day.computed} of ${day.figures} figures` : 'not yet';
    return element('li', {}, element('button', { value: day.day, 'aria-pressed': false, click: () => open(day) },
      element('strong', { text: `${day.day}  ${day.title}` }), element('br'),
      element('span', { className: 'quiet', text: `${state}${written} · ${day.teaches}` })));
  }));
  page.append(element('h1', { text: 'Course' }), element('div', { className: 'columns side' }, element('section', { className: 'panel' }, list), shown));
}

function typing(day) {
  const models = day.models.filter((model) => model.val_loss !== null)
    .map((model) => element('li', { text: `${model.what}: validation loss ${model.val_loss.toFixed(4)} after ${model.steps} steps, in ${model.id}` }));
  return element('div', {}, element('h2', { text: 'What to type' }), element('pre', { text: day.type.join('\n') }), element('ul', {}, ...models));
}

function show(day, section) {
  if (section.markdown !== undefined) return blocks(section.markdown);
  if (section.figure !== undefined) {
    const figure = section.figure ?? `(computed by: ${day.type[0]})`;
    return blocks(`${section.before}${figure.trimEnd()}\n${section.after}`);
  }
  if (!section.picture) return [element('p', { className: 'quiet', text: `Picture: ${section.caption} (computed by: ${day.type[0]})` })];
  return [element('figure', {}, element('img', { src: `/api/course/${day.day}/${section.name}`, alt: section.caption }), element('figcaption', { className: 'quiet', text: section.caption }))];
}
