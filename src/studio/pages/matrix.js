// A matrix of weights from 0 to 1, a square for each, on a canvas.
import { element } from './page.js';

export function matrix(weights, size, label) {
  const canvas = element('canvas', { width: weights.length, height: weights.length, role: 'img', 'aria-label': label });
  const drawing = canvas.getContext('2d');
  const shade = getComputedStyle(document.documentElement).getPropertyValue('--shade');
  weights.forEach((row, query) => row.forEach((weight, key) => {
    // The root, so that small weights are seen too.
    drawing.fillStyle = `rgba(${shade}, ${Math.sqrt(weight)})`;
    drawing.fillRect(key, query, 1, 1);
  }));
  canvas.style.width = canvas.style.height = `${size}px`;
  return canvas;
}
