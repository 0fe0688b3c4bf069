// What stands in place of data: loading, empty, failed.

import { el } from './dom.js';

/** Shows a notice in an element, or hides it. An unchanged one is left alone. */
export function showNotice(element, notice) {
  element.hidden = !notice;
  if (!notice || element.dataset.title === notice.title + notice.text) return;
  element.dataset.title = notice.title + notice.text;
  element.replaceChildren(
    el('h2', {}, notice.title),
    ...[notice.text].flat().map((text) => (typeof text === 'string' ? el('p', {}, text) : text)),
    notice.action ? el('button', { type: 'button', on: { click: notice.run } }, notice.action) : '',
  );
}
