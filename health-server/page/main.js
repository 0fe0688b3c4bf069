// The page: three views by address (#/, #/user/101, #/range), the feed behind them, and what the whole page shares.

import { byId, setText } from './dom.js';
import { Feed } from './feed.js';
import { Live } from './live.js';
import { RangeView } from './range.js';
import { getJson, hasToken, hearTime, newestSample, now, onTokenNeeded, setToken } from './server.js';
import { MINUTE, rfc3339, viewerZone } from './text.js';
import { MINUTES } from './sparkline.js';
import { UserView } from './user.js';
import { Users } from './users.js';

const PAGE_USERS = 1000;
/** Samples a second that the page wants to hear at most: more would cost the browser time, and nobody could read them. */
const SAMPLES_A_SECOND = 4000;
const EVERY_MIN = 250;
/** A tab that is hidden for longer gives its connection up, in milliseconds. It resumes when it is seen again. */
const HIDDEN_MAX = 10_000;
/** Sparklines that are asked for at a time. */
const SPARKLINES_AT_ONCE = 3;

const users = new Users();
const live = new Live(users, wantSparklines);
const userView = new UserView(users);
const rangeView = new RangeView();
const feed = new Feed({
  state: showConnection,
  event: onEvent,
  batchEnd: () => (byId('user').hidden ? live.draw() : userView.tick()),
  every: () => Math.max(EVERY_MIN, Math.ceil((users.size / SAMPLES_A_SECOND) * 4) * 250),
});

// The feed.

function onEvent(name, event, isResuming) {
  if (name === 'sample') {
    const { size } = users;
    users.add(event, now());
    if (users.size !== size) live.added();
    userView.changed(event.user_id);
  } else if (name === 'heartbeat') {
    hearTime(Date.parse(event.time));
  } else if (name === 'erased') {
    erased(event);
  } else if (name === 'subscribed' && !event.resumed && isResuming) {
    note(`Samples may have been missed: ${event.reason}`);
    loadUsers();
  } else if (name === 'lagged') {
    note(`${event.missed} samples were skipped, because this browser read too slowly.`);
    loadUsers();
  }
}

/** Forgets what was erased at once, then asks what is left of the user. */
async function erased({ user_id: id, start }) {
  users.remove(id);
  live.rearrange();
  userView.changed(id);
  if (start === undefined) return;
  const sample = await newestSample(id).catch(() => null);
  if (sample) users.add(sample);
  live.rearrange();
}

/** Reads the newest sample of all users, page by page. */
let loading = null;
async function loadUsers() {
  loading?.abort();
  const { signal } = (loading = new AbortController());
  const seen = new Set();
  users.forgetMinutes();
  if (!users.size) live.notice({ title: 'Loading users…', text: '' });
  try {
    for (let after = '0'; after !== null; ) {
      const page = await getJson('/users', { limit: PAGE_USERS, after }, { signal });
      for (const { last } of page.users) {
        users.add(last);
        seen.add(last.user_id);
      }
      after = page.next === null ? null : page.users.at(-1).last.user_id;
      live.rearrange();
    }
    users.keepOnly(seen);
    feed.adjust();
    live.notice({
      title: 'No samples yet',
      text: ['Users appear here as soon as the server stores a sample, for instance by:', example()],
    });
  } catch (error) {
    if (signal.aborted) return;
    if (users.size) note(`The users could not be loaded again: ${error.message}`);
    live.notice({ title: 'The users could not be loaded', text: error.message, action: 'Load again', run: loadUsers });
  }
}

function example() {
  const code = document.createElement('pre');
  code.textContent = `curl -H 'Content-Type: application/json' ${location.origin}/ingest -d '{"user_id":101,"heart_rate":72,"steps":12}'`;
  code.tabIndex = 0;
  return code;
}

// Sparklines of the tiles that can be seen.

let visible = [];
let sparklineTimer = 0;
let asking = 0;

function wantSparklines(shown) {
  visible = shown;
  // While the person scrolls, nothing is asked.
  clearTimeout(sparklineTimer);
  sparklineTimer = setTimeout(askSparklines, 150);
}

function askSparklines() {
  if (feed.state.name !== 'live' && feed.state.name !== 'connecting') return;
  const minute = Math.floor(now() / MINUTE) * MINUTE;
  while (asking < SPARKLINES_AT_ONCE) {
    const user = visible.find((one) => one.minutesAsked < minute);
    if (!user) return;
    user.minutesAsked = minute;
    asking++;
    askSparkline(user, minute).finally(() => {
      asking--;
      askSparklines();
    });
  }
}

async function askSparkline(user, minute) {
  const range = { start: rfc3339(minute - (MINUTES - 1) * MINUTE), end: rfc3339(minute + MINUTE) };
  try {
    const { buckets } = await getJson('/metrics/series', { user_id: user.id, ...range, bucket: '1m' });
    user.minutes = buckets.map((bucket) => bucket.average_heart_rate);
    live.draw();
  } catch {
    // The connection says what is wrong; the next minute asks again.
  }
}

// Views.

/** The view and the user that are shown, so that the focus goes on from there. */
let shown = {};
/** Whether the person wants to find somebody in the next view. */
let isFinding = false;

function route() {
  const [path, query = ''] = location.hash.slice(1).split('?');
  const [, id] = /^\/user\/(\d+)$/.exec(path) ?? [];
  if (path !== '' && !path.startsWith('/')) return; // The link to the content.
  const view = id ? 'user' : path === '/range' ? 'range' : 'live';
  for (const name of ['live', 'user', 'range']) byId(name).hidden = name !== view;
  for (const link of document.querySelectorAll('nav a')) {
    if (link.dataset.view === view) link.setAttribute('aria-current', 'page');
    else link.removeAttribute('aria-current');
  }
  document.title = { live: 'Health', user: `User ${id} – Health`, range: 'Range – Health' }[view];
  if (id) userView.open(id, new URLSearchParams(query));
  else userView.close();
  if (view === 'range') rangeView.open(new URLSearchParams(query));
  tick();
  if (shown.view && (shown.view !== view || shown.id !== id)) moveFocus(view);
  shown = { view, id };
}

/** Lets a reader of the screen and the Tab key go on in a view that was just opened. */
function moveFocus(view) {
  if (isFinding) find();
  else if (view === 'live' && shown.id) live.focus(shown.id);
  else if (!byId(view).contains(document.activeElement)) byId(`${view}-title`).focus();
}

function find() {
  isFinding = byId('live').hidden;
  if (isFinding) location.hash = '#/';
  byId('find').focus();
  byId('find').select();
}

function tick() {
  if (!byId('live').hidden) live.draw();
  if (!byId('user').hidden) userView.tick();
  const { name, retryAt } = feed.state;
  setText(byId('banner-countdown'), name === 'waiting' ? `Next attempt in ${Math.max(0, Math.ceil((retryAt - Date.now()) / 1000))} s.` : '');
}

addEventListener('hashchange', route);
addEventListener('keydown', (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const isTyping = event.target.closest?.('input, select, textarea') !== null;
  if (event.key === 'Escape') {
    if (event.target.id === 'find' && event.target.value) live.showAll();
    else if (!byId('live').hidden) document.activeElement.blur();
    else location.hash = '#/';
  } else if (event.key === '/' && !isTyping) {
    find();
  } else if (!isTyping && !byId('user').hidden && userView.key(event.key)) {
    // Handled.
  } else {
    return;
  }
  event.preventDefault();
});

// Connection and token.

let noteText = '';
let wasLost = false;

/** Says something about the past of the feed, until the person closes it. */
function note(text) {
  noteText = text;
  showConnection();
}

function showConnection() {
  const { name, detail } = feed.state;
  byId('connection').dataset.state = name;
  setText(byId('connection-words'), { connecting: 'Connecting…', live: 'Connected', waiting: 'Disconnected', token: 'Not connected' }[name]);
  if (name === 'waiting') wasLost = true;
  if (name === 'live' && wasLost && !noteText) {
    noteText = 'Connected again. No sample was missed.';
    setTimeout(() => noteText.startsWith('Connected again') && note(''), 6000);
  }
  if (name === 'live') wasLost = false;
  const text = name === 'waiting' ? detail : noteText;
  byId('banner').hidden = !text;
  setText(byId('banner-words'), text);
  byId('connect-now').hidden = name !== 'waiting';
  byId('banner-close').hidden = name === 'waiting';
  if (name === 'token') askForToken(detail);
  tick();
}

function askForToken(reason) {
  const isNew = byId('token').hidden;
  byId('token').hidden = false;
  document.body.dataset.token = 'needed';
  // Without a token before, there was no mistake to report.
  // The rest of the sentence tells programs what to send.
  setText(byId('token-error'), hasToken() ? `${reason.split('. ')[0].replace(/\.$/, '')}.` : '');
  if (isNew) byId('token-input').focus();
}

byId('token-form').addEventListener('submit', (event) => {
  event.preventDefault();
  const text = byId('token-input').value.trim();
  if (!text) return setText(byId('token-error'), 'Enter a token.');
  setToken(text);
  restart();
});
byId('forget-token').addEventListener('click', () => {
  setToken('');
  location.reload();
});
byId('banner-close').addEventListener('click', () => note(''));
byId('connect-now').addEventListener('click', () => feed.retryNow());
addEventListener('online', () => feed.retryNow());
addEventListener('pagehide', () => feed.pause());
addEventListener('pageshow', (event) => event.persisted && feed.retryNow());
let hiding = 0;
document.addEventListener('visibilitychange', () => {
  clearTimeout(hiding);
  if (document.hidden) hiding = setTimeout(() => feed.pause(), HIDDEN_MAX);
  else if (feed.state.name !== 'live') feed.retryNow();
});
onTokenNeeded(askForToken);

async function restart() {
  try {
    await getJson('/users', { limit: 1 });
  } catch (error) {
    return askForToken(error.message);
  }
  byId('token').hidden = true;
  byId('token-input').value = '';
  delete document.body.dataset.token;
  byId('token-held').hidden = !hasToken();
  feed.retryNow();
  loadUsers();
  route();
}

setText(byId('zone'), viewerZone);
byId('token-held').hidden = !hasToken();
setInterval(tick, 1000);
route();
feed.run();
loadUsers();
