// The page: three views by address (#/, #/user/101, #/range), and the feed behind them.

import { ConnectionView } from './connection.js';
import { byId, el, setText } from './dom.js';
import { Erasures } from './erasures.js';
import { Feed } from './feed.js';
import { isKeyOn, rememberKeys } from './keys.js';
import { Live } from './live.js';
import { MinuteQuery } from './minutes.js';
import { RangeView } from './range.js';
import { getJson, hearTime, now } from './server.js';
import { count, viewerZone, zoneName } from './text.js';
import { askWhenNeeded } from './token.js';
import { UserView } from './user.js';
import { Users } from './users.js';

/** Users on a page of GET /users. */
const PAGE_USERS = 1000;
/**
 * Samples a second that the page wants to hear at most: more would cost the browser time, and nobody could read them.
 */
const SAMPLES_A_SECOND = 4000;
/**
 * The shortest interval between two samples of a user, in milliseconds: about a frame. Longer ones are multiples of it.
 */
const EVERY_MIN = 20;
/**
 * The page shows users without the feed if the feed has not begun after this time, for instance behind a proxy that
 * buffers.
 */
const FEED_WAIT = 1000;
const VIEWS = ['live', 'user', 'range'];

const users = new Users();
const minutes = new MinuteQuery(() => live.draw());
const feed = new Feed({
  state: onState,
  event: onEvent,
  batchEnd: () => (byId('user').hidden ? live.draw() : userView.tick()),
  every: () => Math.max(1, Math.ceil((users.size * 1000) / SAMPLES_A_SECOND / EVERY_MIN)) * EVERY_MIN,
});
const live = new Live(users, feed, (visible) => minutes.show(visible));
const userView = new UserView(users, feed);
const rangeView = new RangeView();
const erasures = new Erasures(users, (id) => {
  live.rearrange();
  for (const view of [userView, rangeView]) view.settled(id);
});
const connection = new ConnectionView();

// The feed and the users.

function onState() {
  connection.show();
  tick();
  if (feed.state.name === 'waiting') loadUsersOnce();
}

function onEvent(name, event, isResuming) {
  if (name === 'sample') {
    const { size } = users;
    users.add(event, now());
    if (users.size !== size) live.added();
    userView.changed(event.user_id);
  } else if (name === 'heartbeat') {
    hearTime(Date.parse(event.time));
  } else if (name === 'erased') {
    erasures.add(event, now());
    live.rearrange();
    for (const view of [userView, rangeView]) view.erased(event);
  } else if (name === 'subscribed') {
    const isGap = isResuming && !event.resumed;
    if (isGap) connection.note(`Samples may have been missed: ${event.reason}`);
    // The feed has all that happens after this event, so what was there before is asked for now and not earlier.
    if (!isResuming || isGap || hasLoadFailed) loadUsers();
    if (isGap) askAgain();
  } else if (name === 'lagged') {
    connection.note(`${count(event.missed)} samples were skipped, because this browser read too slowly.`);
    loadUsers();
    askAgain();
  }
}

/** Asks again for what the views show: erasures may be among the events that were missed. */
function askAgain() {
  for (const view of [userView, rangeView]) view.askAgain();
}

const LOADING = { title: 'Loading users…', text: '' };
let loading = null;
let hasLoadFailed = false;

function loadUsersOnce() {
  if (!loading) loadUsers();
}

/** Reads the newest sample of all users, page by page. */
async function loadUsers() {
  loading?.abort();
  const { signal } = (loading = new AbortController());
  users.doubt();
  hasLoadFailed = false;
  live.notice(LOADING);
  try {
    for (let after = '0'; after !== null; ) {
      const erasuresBefore = users.erasures;
      const page = await getJson('/users', { limit: PAGE_USERS, after }, { signal });
      for (const { last } of page.users) users.addAnswer(last, erasuresBefore);
      after = page.next === null ? null : page.users.at(-1).last.user_id;
      live.rearrange();
    }
    users.removeDoubtful();
    live.notice({ title: 'No samples yet', text: ['Users appear here as soon as the server stores a sample, for instance by:', example()] });
  } catch (error) {
    if (signal.aborted) return;
    hasLoadFailed = true;
    if (users.size) connection.note(`The users could not be loaded again: ${error.message}`);
    live.notice({ title: 'The users could not be loaded', text: error.message, action: 'Load again', run: loadUsers });
  }
}

const example = () =>
  el('pre', { tabindex: '0' }, `curl -H 'Content-Type: application/json' ${new URL('ingest', location.href.split('#')[0])} -d '{"user_id":101,"heart_rate":72,"steps":12}'`);

// Views.

/** The view and the user that are shown, so that the focus goes on from there. */
let shown = {};
/** Whether the person wants to find somebody in the next view. */
let isFinding = false;

function route() {
  const [path, query = ''] = location.hash.slice(1).split('?');
  if (path !== '' && !path.startsWith('/')) return; // The link to the content.
  const [, id] = /^\/user\/0*(\d+)$/.exec(path) ?? [];
  const view = id ? 'user' : path === '/range' ? 'range' : 'live';
  for (const name of VIEWS) byId(name).hidden = name !== view;
  for (const link of document.querySelectorAll('nav a')) {
    if (link.dataset.view === view) link.setAttribute('aria-current', 'page');
    else link.removeAttribute('aria-current');
  }
  // The other views name the zone beside their times.
  byId('times').hidden = view !== 'live';
  document.title = { live: 'Health', user: `User ${id} – Health`, range: 'Range – Health' }[view];
  if (id) userView.open(id, new URLSearchParams(query));
  else userView.close();
  if (view === 'range') rangeView.open(new URLSearchParams(query));
  tick();
  if (shown.view && (shown.view !== view || shown.id !== id)) moveFocus(view);
  shown = { view, id };
}

/** Lets a screen reader and the Tab key go on in a view that was just opened. */
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
  if (byId('live').hidden) live.count();
  else live.draw();
  if (!byId('user').hidden) userView.tick();
  connection.tick();
  feed.adjust();
}

addEventListener('hashchange', route);
addEventListener('keydown', (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || !isKeyOn(event.key)) return;
  const isTyping = Boolean(event.target.closest?.('input:not([type=checkbox], [type=radio]), select, textarea'));
  // Page Up, Page Down and End scroll the page, unless the chart has the focus.
  const isNamed = event.key.length > 1;
  if (event.key === 'Escape') {
    if (event.target.id === 'find' && event.target.value) live.showAll();
    else if (isTyping || !byId('live').hidden) document.activeElement.blur();
    else location.hash = '#/';
  } else if (event.key === '/' && !isTyping) {
    find();
  } else if (isTyping || byId('user').hidden || (isNamed && !event.target.closest?.('.plot')) || !userView.key(event.key)) {
    return;
  }
  event.preventDefault();
});

setText(byId('zone'), zoneName(viewerZone, Date.now()));
rememberKeys();
connection.watch(feed);
askWhenNeeded(() => {
  feed.retryNow();
  loadUsers();
  route();
});
setInterval(tick, 1000);
live.notice(LOADING);
route();
feed.run();
setTimeout(loadUsersOnce, FEED_WAIT);
