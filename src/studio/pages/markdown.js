// The Markdown of the chapters: headings, paragraphs, lists, tables, blocks of code, and marks inside of them.
import { element } from './page.js';

const MARK = /(`[^`]+`|\*\*[^*]+\*\*|\*[^*\s][^*]*\*|\[[^\]]+\]\([^)]+\))/;

function inline(text) {
  return text.split(MARK).map((part) => {
    if (part.startsWith('`')) return element('code', { text: part.slice(1, -1) });
    if (part.startsWith('**')) return element('strong', { text: part.slice(2, -2) });
    if (part.startsWith('*') && part.length > 2) return element('em', { text: part.slice(1, -1) });
    const link = part.match(/^\[([^\]]+)\]\((https?:[^)]+)\)$/);
    if (link) return element('a', { text: link[1], href: link[2], rel: 'noreferrer' });
    return part.match(/^\[([^\]]+)\]\(/)?.[1] ?? part;
  });
}

const cells = (row, tag) => row.replace(/^\||\|$/g, '').split('|').map((cell) => element(tag, {}, ...inline(cell.trim())));

export function blocks(markdown) {
  const lines = markdown.split('\n');
  const made = [];
  let at = 0;
  while (at < lines.length) {
    const line = lines[at];
    if (line.startsWith('```')) {
      const end = lines.findIndex((other, index) => index > at && other.startsWith('```'));
      const last = end < 0 ? lines.length : end;
      made.push(element('pre', { tabIndex: 0, text: lines.slice(at + 1, last).join('\n') }));
      at = last + 1;
    } else if (/^#{1,6} /.test(line)) {
      const level = Math.min(4, line.indexOf(' ') + 1);
      made.push(element(`h${level}`, {}, ...inline(line.replace(/^#+ /, ''))));
      at += 1;
    } else if (line.startsWith('|')) {
      const rows = [];
      while (at < lines.length && lines[at].startsWith('|')) rows.push(lines[at++].trim());
      const body = rows.slice(1).filter((row) => !/^\|[\s|:-]+\|$/.test(row));
      made.push(element('div', { className: 'scroll' }, element('table', {}, element('tr', {}, ...cells(rows[0], 'th')), ...body.map((row) => element('tr', {}, ...cells(row, 'td'))))));
    } else if (/^\s*([-*]|\d+\.) /.test(line)) {
      const list = element(/^\s*\d/.test(line) ? 'ol' : 'ul');
      while (at < lines.length && lines[at].trim()) {
        let item = lines[at++].replace(/^\s*([-*]|\d+\.) /, '');
        while (at < lines.length && lines[at].trim() && !/^\s*([-*]|\d+\.) /.test(lines[at])) item += ` ${lines[at++].trim()}`;
        list.append(element('li', {}, ...inline(item)));
      }
      made.push(list);
    } else if (line.trim()) {
      let text = line;
      at += 1;
      while (at < lines.length && lines[at].trim() && !/^(```|#|\||\s*([-*]|\d+\.) )/.test(lines[at])) text += ` ${lines[at++]}`;
      made.push(element('p', {}, ...inline(text)));
    } else at += 1;
  }
  return made;
}
