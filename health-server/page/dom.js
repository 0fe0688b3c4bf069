// Elements. Text reaches the page through text nodes only, so nothing that a device sends can become HTML.

const SVG = 'http://www.w3.org/2000/svg';
const SVG_NAMES = new Set(['svg', 'g', 'path', 'line', 'rect', 'circle', 'text']);

/** Returns the element of the page with this id. */
export const byId = (id) => document.getElementById(id);

/** Returns a new element. A child is a node or a text; null is left out. */
export function el(name, attributes = {}, ...children) {
  const node = SVG_NAMES.has(name) ? document.createElementNS(SVG, name) : document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key === 'on') {
      for (const [event, listener] of Object.entries(value)) node.addEventListener(event, listener);
    } else if (value === true) {
      node.setAttribute(key, '');
    } else if (value !== false && value != null) {
      node.setAttribute(key, value);
    }
  }
  node.append(...children.filter((child) => child != null));
  return node;
}

/** Sets a text if it has changed: an equal one would cost a paint, and a live region would repeat it. */
export function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

/** Sets the text of a text node if it has changed. */
export function put(node, text) {
  if (node.data !== text) node.data = text;
}

/** Sets an attribute if it has changed. */
export function setAttribute(node, name, value) {
  if (node.getAttribute(name) !== value) node.setAttribute(name, value);
}
