// Live parts, filters, selection, and confirmations. Every page works without this file.

// The server sends something every 5 s.
const DEAD_MS = 12_000; // then connect again
const QUIET_MS = 15_000; // then call the page stale
const RETRY_MS = 5_000;
const HIDDEN_MS = 60_000;
const HOLD_MS = 20_000;
const DEVICE_BOX = 'input[type="checkbox"][name="device"]';

const $ = (selector, root = document) => root.querySelector(selector);
const $$ = (selector, root = document) => [...root.querySelectorAll(selector)];
const count = n => n.toLocaleString('en-US');
const main = $('main');

// Parts

const shown = new Map(); // id -> html put in place last
const held = new Map(); // id -> { html, since }
let streamed = new Set(); // parts that came while a page is being fetched, and so are newer than it
let pressed = false;

/** Finds in a rebuilt part what `element` was in the old one. */
function twin(element, root) {
  if (element.id) return root.id === element.id ? root : $(`#${CSS.escape(element.id)}`, root);
  const key = other => ['type', 'name', 'value', 'href'].map(name => other.getAttribute(name)).join('\n')
    + (other.name || other.href ? '' : other.textContent);
  return $$(element.localName, root).find(other => key(other) === key(element));
}

/** True while replacing the part would pull something from under the user's hands. */
function inUse(part) {
  const text = getSelection();
  return pressed || $('select:focus', part) || (!text.isCollapsed && text.rangeCount > 0 && text.getRangeAt(0).intersectsNode(part));
}

function replacePart(id, html) {
  const old = document.getElementById(id);
  const since = held.get(id)?.since ?? Date.now();
  held.delete(id);
  if (!old || shown.get(id) === html) return;
  if ($('dialog[open]') || (inUse(old) && Date.now() - since < HOLD_MS)) {
    held.set(id, { html, since });
    return;
  }
  const template = document.createElement('template');
  template.innerHTML = html;
  const fresh = template.content.firstElementChild;
  if (fresh?.id !== id) return;
  shown.set(id, html);

  const all = (selector, root) => [root, ...$$(selector, root)].filter(element => element.matches(selector));
  for (const details of all('details[id]', old)) (twin(details, fresh) ?? {}).open = details.open;
  const scrolls = all('.scroll', old).map(box => [box.scrollLeft, box.scrollTop]);
  const focused = old.contains(document.activeElement) ? document.activeElement : null;
  const { value, selectionStart, selectionEnd } = focused ?? {};

  old.replaceWith(fresh);
  all('.scroll', fresh).forEach((box, i) => box.scrollTo(...(scrolls[i] ?? [0, 0])));
  const next = focused && twin(focused, fresh);
  next?.focus({ preventScroll: true });
  if (next && selectionStart != null) {
    next.value = value;
    next.setSelectionRange(selectionStart, selectionEnd);
  }
  showSelection();
  showTimes();
}

function releaseParts() {
  for (const [id, { html }] of [...held]) replacePart(id, html);
}

addEventListener('pointerdown', () => { pressed = true; }, true);
for (const type of ['pointerup', 'pointercancel']) {
  // The click comes after pointerup, and needs the element that was pressed.
  addEventListener(type, () => setTimeout(() => { pressed = false; releaseParts(); }), true);
}

// The page, fetched again

let loading = null;

/** Brings every part of this page to what its address shows now. */
async function load() {
  loading?.abort();
  const mine = loading = new AbortController();
  streamed = new Set();
  main.setAttribute('aria-busy', 'true');
  try {
    const answer = await fetch(location.href, { signal: mine.signal });
    if (answer.status === 401 || new URL(answer.url).pathname === '/login') return toLogin();
    if (answer.status >= 500) throw new Error(`HTTP ${answer.status}`);
    if (!answer.ok) return location.reload(); // let the server's own page say what is wrong
    const page = new DOMParser().parseFromString(await answer.text(), 'text/html');
    for (const part of $$('[data-part][id]', page)) {
      if (!streamed.has(part.id)) replacePart(part.id, part.outerHTML);
    }
    main.dataset.live = $('main', page)?.dataset.live ?? '';
    behind = false;
  } catch {
    if (mine === loading) setTimeout(() => behind && stream && load(), RETRY_MS);
    behind = true;
  } finally {
    if (mine === loading) main.removeAttribute('aria-busy');
  }
  if (mine === loading && stream?.url !== new URL(main.dataset.live, location).href) open();
}

// The stream

let stream = null;
let opened = 0;
let heard = Date.now();
let behind = false; // updates may have been missed
let hiding = 0;
let skew = 0; // server clock minus local clock

function close() {
  stream?.close();
  stream = null;
}

function toLogin() {
  close();
  location.assign('/login');
}

function open() {
  close();
  if (!main?.dataset.live) return;
  const mine = stream = new EventSource(main.dataset.live);
  opened = Date.now();
  const on = (type, act) => mine.addEventListener(type, event => {
    if (mine !== stream) return;
    heard = Date.now();
    act?.(event.data);
    showConnection();
  });
  on('open', () => behind && load());
  on('beat');
  on('hello', data => {
    skew = Number(data) - Date.now() || 0;
    showTimes();
  });
  on('part', data => {
    const { id, html } = JSON.parse(data);
    streamed.add(id);
    replacePart(id, html);
  });
  on('resync', load);
  on('bye', toLogin);
  mine.onerror = () => {
    if (mine === stream) behind = true;
    showConnection();
  };
}

function showConnection() {
  const line = $('#connection');
  if (!line || !main?.dataset.live) return;
  const stale = Date.now() - heard > QUIET_MS;
  const live = !stale && stream?.readyState === EventSource.OPEN;
  const clock = new Date(heard).toLocaleTimeString('en-US', { hour: '2-digit', minute: '2-digit', hourCycle: 'h23' });
  const words = live ? 'live' : stale ? `not updated since ${clock}` : behind ? 'connecting again…' : 'connecting…';
  if (line.textContent !== words) line.textContent = words; // a live region: say changes only
  line.classList.toggle('live', live);
  line.classList.toggle('stale', stale);
  document.body.classList.toggle('stale', stale);
}

function watch() {
  releaseParts();
  showConnection();
  if (!stream) return;
  // The browser does not retry a refused stream, and a dead connection may never raise an error.
  const refused = stream.readyState === EventSource.CLOSED;
  if (Date.now() - Math.max(heard, opened) < (refused ? RETRY_MS : DEAD_MS)) return;
  behind = true;
  open();
  if (refused) load(); // an ended session answers with the login page
}

function reopen() {
  behind = true;
  open();
}

document.addEventListener('visibilitychange', () => {
  clearTimeout(hiding);
  if (document.hidden) hiding = setTimeout(close, HIDDEN_MS);
  else if (!stream) reopen();
});
addEventListener('pagehide', close);
addEventListener('pageshow', event => {
  if (!event.persisted) return;
  showSelection();
  reopen();
});

// Times

function ago(seconds) {
  const s = Math.abs(Math.round(seconds));
  const words = s < 60 ? `${s} s` : s < 3600 ? `${Math.floor(s / 60)} min` : s < 172_800 ? `${Math.floor(s / 3600)} h` : `${Math.floor(s / 86_400)} days`;
  return seconds < -2 ? `in ${words}` : seconds < 0 ? '0 s ago' : `${words} ago`;
}

function showTimes() {
  for (const time of $$('time[data-ago]')) {
    const at = new Date(time.dateTime);
    if (Number.isNaN(at.valueOf())) continue;
    const words = ago((Date.now() + skew - at) / 1000);
    if (time.textContent !== words) time.textContent = words;
    time.title ||= at.toLocaleString('en-US', { dateStyle: 'medium', timeStyle: 'long', hourCycle: 'h23' });
  }
}

// Filters

let typing = 0;

function applyFilters(form) {
  clearTimeout(typing);
  const url = new URL(form.getAttribute('action'), location); // a field named action would hide form.action
  url.search = new URLSearchParams([...new FormData(form)].filter(([, value]) => value !== ''));
  history.replaceState(null, '', url);
  close(); // it streams the old query
  load();
}

addEventListener('input', ({ target }) => {
  const form = target.closest('form.filters');
  if (!form) return;
  clearTimeout(typing);
  typing = setTimeout(applyFilters, target.matches('select, [type="checkbox"], [type="radio"]') ? 0 : 400, form);
});

// Selection

const selection = () => new Set(JSON.parse(sessionStorage.getItem('selected') ?? '[]'));
const store = devices => sessionStorage.setItem('selected', JSON.stringify([...devices]));
let anchor = null; // the device whose box was clicked last

function showSelection() {
  const devices = selection();
  const boxes = $$(DEVICE_BOX);
  for (const box of boxes) box.checked = devices.has(box.value);
  const checked = boxes.filter(box => box.checked).length;
  for (const all of $$('[data-all]')) {
    all.checked = checked > 0 && checked === boxes.length;
    all.indeterminate = checked > 0 && checked < boxes.length;
  }
  const output = $('#selected');
  if (!output || (output.matches('.refused') && !devices.size)) return;
  const away = devices.size - checked;
  const words = `${count(devices.size)} selected${away ? `, ${count(away)} not on this page` : ''}`;
  if (output.textContent !== words) output.textContent = words;
  output.className = devices.size ? 'some' : '';
}

addEventListener('click', ({ target, shiftKey }) => {
  const all = target.matches('[data-all]');
  const clear = target.closest('[data-clear]');
  if (!all && !clear && !target.matches(DEVICE_BOX)) return;
  const devices = clear ? new Set() : selection();
  if (!clear) {
    let touched = all ? $$(DEVICE_BOX) : [target];
    if (!all && shiftKey) {
      const boxes = $$(DEVICE_BOX);
      const ends = [boxes.findIndex(box => box.value === anchor), boxes.indexOf(target)].sort((a, b) => a - b);
      if (ends[0] >= 0) touched = boxes.slice(ends[0], ends[1] + 1);
    }
    for (const box of touched) devices[target.checked ? 'add' : 'delete'](box.value);
    anchor = target.value;
  }
  store(devices);
  showSelection();
});

// Forms

const confirmed = new WeakSet();

function make(tag, props, ...children) {
  const element = Object.assign(document.createElement(tag), props);
  element.append(...children);
  return element;
}

function ask(question, form, button) {
  const words = make('p', { id: 'question' }, question);
  const cancel = make('button', { value: '', autofocus: true }, 'Cancel');
  const go = make('button', { value: 'ok', className: button?.matches('.danger') ? 'danger' : 'primary' }, button?.textContent.trim() || 'OK');
  const dialog = make('dialog', {}, make('form', { method: 'dialog' }, words, make('div', { className: 'buttons' }, cancel, go)));
  dialog.setAttribute('aria-labelledby', words.id);
  dialog.addEventListener('close', () => {
    dialog.remove();
    if (dialog.returnValue === 'ok') {
      confirmed.add(form);
      form.requestSubmit(button);
    }
    releaseParts();
  });
  document.body.append(dialog);
  dialog.showModal();
}

addEventListener('submit', event => {
  const { target: form, submitter: button } = event;
  if (form.getAttribute('method') === 'dialog') return;
  if (form.matches('.filters')) {
    event.preventDefault();
    return applyFilters(form);
  }
  if (form.elements.scope?.value === 'filter') {
    form.elements.filter.value = location.search.slice(1); // the list may have been filtered since the page came
    return; // the server asks, with the names
  }
  const output = $('#selected', form); // only pages with a table to select from have it
  const devices = selection();
  if (output && !devices.size) {
    event.preventDefault();
    output.textContent = 'Select devices first';
    output.className = 'refused';
    return;
  }
  const question = button?.dataset.confirm ?? form.dataset.confirm;
  if (question && !confirmed.delete(form)) {
    event.preventDefault();
    const n = output ? devices.size : new FormData(form).getAll('device').length || 1;
    const words = n === 1 ? question.replace(/\{n\} (\w+)s\b/, '1 $1') : question;
    return ask(words.replaceAll('{n}', count(n)), form, button);
  }
  if (!output) return;
  for (const old of $$('.carried', form)) old.remove(); // left from before "back"
  const here = new Set($$(DEVICE_BOX).map(box => box.value));
  for (const value of devices) {
    if (!here.has(value)) form.append(make('input', { type: 'hidden', name: 'device', value, className: 'carried' }));
  }
  store([]);
});

showSelection();
showTimes();
open();
setInterval(watch, 1_000);
setInterval(showTimes, 10_000);
