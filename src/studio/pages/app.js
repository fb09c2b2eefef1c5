// The shell: one page at a time, by the part of the address after #.
import { element, say } from './page.js';
import runs from './runs.js';
import playground from './playground.js';
import inside from './inside.js';
import tokens from './tokens.js';
import course from './course.js';

const pages = { runs, playground, inside, tokens, course };
let leave = () => {};

async function show() {
  const name = location.hash.slice(1).split('/')[0] || 'runs';
  const page = pages[name] ?? runs;
  leave();
  leave = () => {};
  for (const link of document.querySelectorAll('nav a')) {
    if (link.hash === `#${pages[name] ? name : 'runs'}`) link.setAttribute('aria-current', 'page');
    else link.removeAttribute('aria-current');
  }
  const main = document.getElementById('page');
  const container = element('div');
  main.replaceChildren(container);
  try {
    leave = (await page(container)) ?? leave;
  } catch (error) {
    say(error.message);
  }
}

addEventListener('hashchange', show);
show();
