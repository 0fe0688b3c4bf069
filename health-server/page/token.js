// The form that asks for a token.

import { byId, setText } from './dom.js';
import { getJson, hasToken, onTokenNeeded, setToken } from './server.js';

/**
 * Lets the form appear when a request needs another token. `accepted` is called after the person entered one that may
 * read.
 */
export function askWhenNeeded(accepted) {
  onTokenNeeded(askForToken);
  byId('token-held').hidden = !hasToken();
  byId('token-form').addEventListener('submit', async (event) => {
    event.preventDefault();
    const text = byId('token-input').value.trim();
    if (!text) return fail('Enter a token.');
    setToken(text);
    try {
      await getJson('/users', { limit: 1 });
    } catch (error) {
      return askForToken(error.message);
    }
    byId('token').hidden = true;
    byId('token-input').value = '';
    delete document.body.dataset.token;
    byId('token-held').hidden = false;
    accepted();
  });
  byId('forget-token').addEventListener('click', () => {
    setToken('');
    location.reload();
  });
}

/** Shows the form with the server's reason. */
export function askForToken(reason) {
  const isNew = byId('token').hidden;
  byId('token').hidden = false;
  document.body.dataset.token = 'needed';
  // Without a token before, there was no mistake to report. The second sentence tells programs what to send.
  fail(hasToken() ? `${reason.split('. ')[0].replace(/\.$/, '')}.` : '');
  if (isNew) byId('token-input').focus();
}

function fail(text) {
  setText(byId('token-error'), text);
  if (text) byId('token-input').setAttribute('aria-invalid', 'true');
  else byId('token-input').removeAttribute('aria-invalid');
}
