// Whether keys with one character do something. People who dictate, or whose hands slip, turn them off (WCAG 2.2,
// 2.1.4).

import { byId } from './dom.js';

const KEY = 'health-keys';

/** Returns whether a key may do something: one that is a character only if the person has not turned them off. */
export const isKeyOn = (key) => key.length > 1 || byId('character-keys').checked;

/** Reads and keeps the person's choice. */
export function rememberKeys() {
  const box = byId('character-keys');
  try {
    box.checked = localStorage.getItem(KEY) !== 'off';
    box.addEventListener('change', () => (box.checked ? localStorage.removeItem(KEY) : localStorage.setItem(KEY, 'off')));
  } catch {
    // Storage is forbidden in this browser: the choice lives as long as the page.
  }
}
