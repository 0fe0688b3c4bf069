// Requests to the server. The token is kept for this tab only, and sent to this server only.

const KEY = 'health-token';

/** For an answer that this server never gives: a proxy, or the login page of a network. */
export const NOT_OURS = 'The answer is not one of this server. Something between it and this page has answered in its place.';

/** What the server answers instead of data: an HTTP status, or 0 if there was no answer, and a sentence. */
export class Problem extends Error {
  constructor(status, detail, retryAfter = 0) {
    super(detail);
    this.status = status;
    /** Seconds after which a request may succeed, or 0. */
    this.retryAfter = retryAfter;
  }
}

/** How far the server's clock is ahead of the viewer's, which may be wrong by hours. */
let ahead = 0;

/** Returns the server's time in milliseconds. */
export const now = () => Date.now() + ahead;

/** Takes the server's time from an event. */
export const hearTime = (ms) => {
  ahead = ms - Date.now();
};

let secret = '';
try {
  secret = sessionStorage.getItem(KEY) ?? '';
} catch {
  // Storage is forbidden in this browser: the token lives as long as the page.
}

export const hasToken = () => secret !== '';

/** Keeps a token; an empty text forgets it. */
export function setToken(text) {
  secret = text;
  try {
    if (text) sessionStorage.setItem(KEY, text);
    else sessionStorage.removeItem(KEY);
  } catch {
    // As above.
  }
}

let tokenNeeded = () => {};

/** Sets what is called with the server's sentence if a request needs another token. */
export const onTokenNeeded = (listener) => {
  tokenNeeded = listener;
};

/** Sends a GET request. Throws a Problem if the answer is not 200, and AbortError if `signal` ends it. */
export async function get(path, parameters = {}, { signal, headers = {} } = {}) {
  const query = Object.entries(parameters).map(([name, value]) => `${name}=${encodeURIComponent(value)}`);
  // Relative to the page, which a proxy may serve below a path of its own.
  const url = `.${path}${query.length ? `?${query.join('&')}` : ''}`;
  if (secret) headers.Authorization = `Bearer ${secret}`;
  const sent = secret;
  let response;
  try {
    response = await fetch(url, { headers, signal, cache: 'no-store', credentials: 'omit', redirect: 'error' });
  } catch (error) {
    if (signal?.aborted) throw error;
    throw new Problem(0, 'The server does not answer.');
  }
  // In whole seconds, so only to notice a clock that is wrong before the first event says it better.
  const date = Date.parse(response.headers.get('Date'));
  if (Math.abs(date - now()) > 3000) hearTime(date);
  if (response.ok) return response;
  const problem = await response.json().catch(() => ({}));
  const detail = problem.detail ?? `The server answered ${response.status}.`;
  // The answer to a request with an earlier token says nothing about this one.
  if (response.status === 401 && sent === secret) tokenNeeded(detail);
  throw new Problem(response.status, detail, Number(response.headers.get('Retry-After')) || 0);
}

/** Sends a GET request and returns its JSON. */
export async function getJson(path, parameters, options) {
  const text = await (await get(path, parameters, options)).text();
  try {
    return parse(text);
  } catch {
    throw new Problem(0, NOT_OURS);
  }
}

/** Returns the newest sample of one user, or null. */
export async function newestSample(id) {
  const { users } = await getJson('/users', { limit: 1, after: String(BigInt(id) - 1n) });
  return users[0]?.last.user_id === id ? users[0].last : null;
}

/** Parses JSON of the server. Ids of users stay text, because a number of JavaScript has 53 bits and an id has 63. */
export function parse(text) {
  // Inside of a string, a quotation mark has a backslash before it, so only names of fields match.
  return JSON.parse(text.replace(/"user_id":(\d+)/g, '"user_id":"$1"'));
}
