// Curves drawn as SVG, with one crosshair and one time range for all charts of a section.

const REFRESH_MS = 15_000;
const TIMEOUT_MS = 20_000;
const LEAST_SPAN_MS = 10_000;
const HEIGHT = 176;
const PAD = { left: 56, right: 10, top: 16, bottom: 20 };
const MARKS = { promoted: '▲', rolled_back: '▼', rejected: '×' };

function html(tag, props = {}, ...children) {
  const element = Object.assign(document.createElement(tag), props);
  element.append(...children);
  return element;
}

function svg(tag, attributes = {}, ...children) {
  const element = document.createElementNS('http://www.w3.org/2000/svg', tag);
  set(element, attributes);
  element.append(...children);
  return element;
}

function set(element, attributes) {
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
}

// Numbers and times

/** With a suffix; `least` digits are kept even if they are zeros, so that live values do not jump about. */
function number(value, least = 1, most = 4) {
  const size = Math.abs(value);
  if (size >= 1e15 || (size > 0 && size < 1e-3)) return Number(value.toPrecision(most)).toExponential().replaceAll('-', '−').replace('+', '');
  const [unit, suffix] = [[1e12, 'T'], [1e9, 'G'], [1e6, 'M'], [1e3, 'k']].find(([unit]) => size >= Math.max(unit, 1e4)) ?? [1, ''];
  const digits = { maximumSignificantDigits: most, minimumSignificantDigits: Number.isInteger(value) ? 1 : least };
  return (value / unit).toLocaleString('en-US', digits).replace('-', '−') + suffix;
}

/** Round tick values whose ends enclose `low` to `high`: always three to five of them. */
function ticks(low, high) {
  if (high - low <= 1e-9 * Math.abs(low)) {
    const room = Math.abs(low) * 0.1 || 1;
    [low, high] = [low - room, high + room];
  }
  const power = 10 ** Math.floor(Math.log10((high - low) / 4));
  for (const step of [1, 2, 2.5, 5, 10, 20].map(factor => factor * power)) {
    const first = Math.floor(low / step + 1e-9);
    const last = Math.ceil(high / step - 1e-9);
    if (last - first <= 4) return Array.from({ length: last - first + 1 }, (_, i) => Number(((first + i) * step).toPrecision(12)));
  }
  return [low, high];
}

const style = options => {
  const format = new Intl.DateTimeFormat('en-US', { hourCycle: 'h23', ...options });
  return at => format.format(at);
};
const clock = style({ hour: '2-digit', minute: '2-digit' });
const seconds = style({ hour: '2-digit', minute: '2-digit', second: '2-digit' });
const day = style({ month: 'short', day: 'numeric' });
const month = style({ month: 'short', year: 'numeric' });
const date = style({ month: 'short', day: 'numeric', year: 'numeric' });
const full = at => `${new Date(at).getFullYear() === new Date().getFullYear() ? day(at) : date(at)} ${seconds(at)}`;

// [step in ms, index of the date field it counts in, size in that field, label]
const STEPS = [
  ...[1, 2, 5, 10, 15, 30].map(n => [n * 1e3, 5, n, seconds]),
  ...[1, 2, 5, 10, 15, 30].map(n => [n * 6e4, 4, n, clock]),
  ...[1, 2, 3, 6, 12].map(n => [n * 36e5, 3, n, clock]),
  ...[1, 2, 7, 14].map(n => [n * 864e5, 2, n, day]),
  ...[1, 2, 3, 6, 12, 24, 60].map(n => [n * 2628e6, 1, n, month]),
];

/** Local times to label; counts in calendar fields, so that they stay round across a change of clocks. */
function timeTicks(from, to, most) {
  const [, field, size, label] = STEPS.find(([ms]) => (to - from) / ms <= most) ?? STEPS.at(-1);
  const start = new Date(from);
  const fields = [start.getFullYear(), start.getMonth(), start.getDate(), start.getHours(), start.getMinutes(), start.getSeconds()];
  fields.splice(field + 1, 5, ...[0, 0, 1, 0, 0, 0].slice(field + 1));
  const counted = field === 2 ? Math.floor(Date.UTC(...fields.slice(0, 3)) / 864e5) : field === 1 ? fields[0] * 12 + fields[1] : fields[field];
  fields[field] -= counted % size;
  const found = [];
  for (let at = from; at <= to && found.length < 50; fields[field] += size) {
    at = new Date(...fields).getTime();
    if (at >= from && at <= to && at !== found.at(-1)?.[0]) found.push([at, /^00:00(:00)?$/.test(label(at)) ? day(at) : label(at)]);
  }
  return found;
}

// Points

function clean(points = []) {
  const good = points.filter(([t, mean]) => Number.isFinite(t) && Number.isFinite(mean));
  return good.map(([t, mean, min, max]) => ({ t, mean, min: Number.isFinite(min) ? min : mean, max: Number.isFinite(max) ? max : mean }));
}

/** The longest distance of two neighbors that still counts as no gap. */
function reach(points) {
  const steps = points.slice(1).map((point, i) => point.t - points[i].t).sort((a, b) => a - b);
  return steps.length ? 3 * steps[steps.length >> 1] : Infinity;
}

function nearest(points, t) {
  let low = 0;
  let high = points.length - 1;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (points[middle].t < t) low = middle + 1;
    else high = middle;
  }
  return low > 0 && t - points[low - 1].t < points[low].t - t ? low - 1 : low;
}

// One chart

class Chart {
  constructor(board) {
    this.board = board;
    this.name = html('span', { className: 'name' });
    this.unit = html('span', { className: 'unit' });
    this.value = html('span', { className: 'value' });
    this.when = html('span', { className: 'when' });
    this.legend = html('ul', { className: 'legend' });
    this.table = html('div', { className: 'scroll' });
    this.details = html('details', {}, html('summary', { textContent: 'As a table' }), this.table);
    this.caption = html('figcaption', {}, this.name, this.unit, this.value, this.when);
    this.plot = svg('svg', { class: 'plot', tabindex: 0, role: 'application', 'aria-roledescription': 'chart' });
    this.figure = html('figure', {}, this.caption, this.plot, this.legend, this.details);
    this.details.addEventListener('toggle', () => this.fillTable());
    this.listen();
  }

  update({ title, name, unit, points, series }) {
    this.several = Array.isArray(series);
    this.series = (this.several ? series.slice(0, 8) : [{ label: title ?? name, points }])
      .map(({ label, points }) => ({ label, points: clean(points) }))
      .map(each => ({ ...each, reach: reach(each.points) }));
    this.name.textContent = title ?? name;
    this.unit.textContent = unit ?? '';
    this.plot.setAttribute('aria-label', `${title ?? name}: left and right arrows move the crosshair, plus and minus zoom, Escape resets`);
    this.legend.hidden = !this.several;
    for (const each of this.series) each.value = this.several ? html('b') : this.value;
    if (this.several) {
      const sample = i => svg('svg', { class: `s${i}`, 'aria-hidden': true }, svg('path', { class: 'line', d: 'M1 4H27' }));
      this.legend.replaceChildren(...this.series.map(({ label, value }, i) => html('li', {}, sample(i), html('span', { textContent: label }), value)));
    }
    this.fillTable();
    this.draw();
  }

  draw() {
    const { from, to, marks } = this.board;
    this.width = Math.max(120, this.plot.clientWidth);
    const right = this.width - PAD.right;
    const bottom = HEIGHT - PAD.bottom;
    this.x = t => PAD.left + (t - from) / (to - from) * (right - PAD.left);
    this.time = x => from + (Math.min(Math.max(x, PAD.left), right) - PAD.left) / (right - PAD.left) * (to - from);
    const all = this.series.flatMap(each => each.points);
    const banded = this.series.length <= 2;
    const bound = (pick, key) => all.reduce((edge, point) => pick(edge, point[banded ? key : 'mean']), all[0]?.mean);
    const levels = all.length ? ticks(bound(Math.min, 'min'), bound(Math.max, 'max')) : [];
    const [low, high] = [levels[0], levels.at(-1)];
    const y = v => bottom - (v - low) / (high - low) * (bottom - PAD.top);
    this.y = y;

    // As many digits as tell the levels apart.
    const digits = Math.floor(Math.log10(Math.max(Math.abs(low), Math.abs(high)))) - Math.floor(Math.log10(levels[1] - low)) + 2;
    const frame = levels.flatMap(level => [
      svg('line', { class: 'grid', x1: PAD.left, x2: right, y1: y(level), y2: y(level) }),
      svg('text', { x: PAD.left - 6, y: y(level) + 4, 'text-anchor': 'end' }, number(level, 1, Math.min(Math.max(digits, 1), 12))),
    ]);
    for (const [at, label] of timeTicks(from, to, Math.max(2, Math.floor(this.width / 85)))) {
      const x = this.x(at);
      frame.push(svg('line', { class: 'grid', x1: x, x2: x, y1: bottom, y2: bottom + 4 }));
      if (x > PAD.left - 8 && x < right - 10) frame.push(svg('text', { x, y: HEIGHT - 4, 'text-anchor': 'middle' }, label));
    }
    const events = marks.filter(({ at }) => at >= from && at <= to).map(({ at, kind, text }) => svg(
      'g', { class: `event ${kind in MARKS ? kind : 'other'}` },
      svg('title', {}, `${text} (${full(at)})`),
      svg('line', { x1: this.x(at), x2: this.x(at), y1: PAD.top, y2: bottom }),
      svg('text', { x: this.x(at), y: PAD.top - 4 }, MARKS[kind] ?? '◆'),
    ));
    const drawn = this.series.flatMap((each, i) => this.path(each, i, banded));
    const none = svg('text', { class: 'none', x: this.width / 2, y: HEIGHT / 2 }, 'No data in this range');

    this.dots = this.series.map((_, i) => svg('circle', { class: `dot s${i}`, r: 3.5 }));
    this.hair = svg('line', { y1: PAD.top, y2: bottom });
    this.cross = svg('g', { class: 'cross' }, this.hair, ...this.dots);
    this.drag = svg('rect', { class: 'drag', y: PAD.top, height: bottom - PAD.top, width: 0 });
    this.plot.setAttribute('viewBox', `0 0 ${this.width} ${HEIGHT}`);
    this.plot.replaceChildren(...frame, ...drawn, ...events, ...(all.length ? [] : [none]), this.drag, this.cross);
    this.showCursor();
    this.showDrag();
  }

  path({ points, reach }, i, banded) {
    const at = (t, v) => `${this.x(t).toFixed(1)} ${this.y(v).toFixed(1)}`;
    const runs = [];
    for (const [n, point] of points.entries()) {
      if (n > 0 && point.t - points[n - 1].t <= reach) runs.at(-1).push(point);
      else runs.push([point]);
    }
    // "h0" lets the round cap show a point that stands alone.
    const line = runs.map(run => `M${run.map(({ t, mean }) => at(t, mean)).join('L')}h0`).join('');
    const band = runs.map(run => `M${run.map(({ t, max }) => at(t, max)).join('L')}L${run.toReversed().map(({ t, min }) => at(t, min)).join('L')}Z`).join('');
    return [...(banded ? [svg('path', { class: `band s${i}`, d: band })] : []), svg('path', { class: `line s${i}`, d: line })];
  }

  /** Moves what is there; hovering never builds the drawing again. */
  showCursor() {
    const { cursor, from, to, marks } = this.board;
    const inside = cursor !== null && cursor >= from && cursor <= to;
    this.cross.setAttribute('visibility', inside ? 'visible' : 'hidden');
    if (inside) set(this.hair, { x1: this.x(cursor), x2: this.x(cursor) });
    for (const [i, { points, reach, value }] of this.series.entries()) {
      let point = inside ? points[nearest(points, cursor)] : points.at(-1);
      if (inside && point && Math.abs(point.t - cursor) > reach) point = undefined;
      value.textContent = point ? number(point.mean, 4) : '–';
      this.dots[i].setAttribute('visibility', inside && point ? 'inherit' : 'hidden');
      if (inside && point) set(this.dots[i], { cx: this.x(point.t), cy: this.y(point.mean) });
    }
    const near = inside && marks.find(({ at }) => Math.abs(this.x(at) - this.x(cursor)) < 5);
    this.value.hidden = this.several;
    this.when.textContent = !inside ? 'last' : near ? `${full(cursor)} · ${near.text}` : full(cursor);
  }

  showDrag() {
    const [a, b] = this.board.drag ?? [0, 0];
    const ends = [this.x(Math.min(a, b)), this.x(Math.max(a, b))];
    set(this.drag, this.board.drag ? { x: ends[0], width: ends[1] - ends[0] } : { x: 0, width: 0 });
  }

  fillTable() {
    if (!this.details.open) return;
    const rows = this.series.flatMap(({ label, points }) => points.map(point => ({ label, ...point })));
    const stride = Math.ceil(rows.length / 200) || 1;
    const cells = ({ t, label, mean, min, max }) => [full(t), ...(this.several ? [label] : []), ...[mean, min, max].map(value => number(value, 4))];
    const kept = rows.toReversed().filter((_, i) => i % stride === 0);
    const head = ['Time', ...(this.several ? ['Device'] : []), 'Mean', 'Min', 'Max'];
    const row = (tag, texts) => html('tr', {}, ...texts.map((textContent, i) => html(tag, { textContent, className: i >= texts.length - 3 ? 'number' : '' })));
    this.table.replaceChildren(html('table', {},
      html('caption', { className: 'hidden', textContent: `${this.name.textContent}, ${kept.length} of ${rows.length} points` }),
      html('thead', {}, row('th', head)), html('tbody', {}, ...kept.map(each => row('td', cells(each))))));
  }

  /** The time of the point `by` points from the crosshair, in the series with the most points. */
  step(by) {
    const { points } = this.series.reduce((a, b) => b.points.length > a.points.length ? b : a);
    if (!points.length) return null;
    const { cursor } = this.board;
    const index = cursor === null ? points.length - 1 : nearest(points, cursor) + by;
    return points[Math.min(Math.max(index, 0), points.length - 1)].t;
  }

  listen() {
    const { board, plot } = this;
    const timeAt = event => this.time((event.clientX - plot.getBoundingClientRect().left) * this.width / plot.clientWidth);
    const snap = t => {
      const near = this.series.map(({ points }) => points[nearest(points, t)]?.t ?? Infinity);
      const best = near.reduce((a, b) => Math.abs(b - t) < Math.abs(a - t) ? b : a);
      return Math.abs(this.x(best) - this.x(t)) < 12 ? best : t;
    };
    let start = null; // { x, t } of the press
    plot.addEventListener('pointerdown', event => {
      if (event.button !== 0) return;
      start = { x: event.clientX, t: timeAt(event) };
      plot.setPointerCapture(event.pointerId);
      board.setCursor(snap(start.t));
    });
    plot.addEventListener('pointermove', event => {
      const t = timeAt(event);
      if (start && (board.drag || Math.abs(event.clientX - start.x) >= 8)) board.setDrag([start.t, t]);
      board.setCursor(snap(t));
    });
    plot.addEventListener('pointerup', () => {
      const range = board.drag;
      start = null;
      board.setDrag(null);
      if (range) board.zoomTo(Math.min(...range), Math.max(...range));
    });
    plot.addEventListener('pointercancel', () => {
      start = null;
      board.setDrag(null);
    });
    plot.addEventListener('pointerleave', event => event.pointerType === 'mouse' && !start && board.setCursor(null));
    plot.addEventListener('dblclick', () => board.reset());
    plot.addEventListener('focus', () => this.caption.setAttribute('aria-live', 'polite'));
    plot.addEventListener('blur', () => this.caption.removeAttribute('aria-live'));
    const keys = {
      ArrowLeft: shift => board.setCursor(this.step(shift ? -10 : -1)),
      ArrowRight: shift => board.setCursor(this.step(shift ? 10 : 1)),
      Home: () => board.setCursor(this.step(-Infinity)),
      End: () => board.setCursor(this.step(Infinity)),
      '+': () => board.zoomBy(0.5),
      '=': () => board.zoomBy(0.5),
      '-': () => board.zoomBy(2),
      '−': () => board.zoomBy(2),
      Escape: () => {
        start = null;
        if (board.drag) board.setDrag(null);
        else board.reset();
      },
    };
    plot.addEventListener('keydown', event => {
      if (event.ctrlKey || event.metaKey || event.altKey || !Object.hasOwn(keys, event.key)) return;
      event.preventDefault();
      keys[event.key](event.shiftKey);
    });
  }
}

// All charts of a section

class Board {
  charts = new Map(); // by the curve's name
  marks = [];
  cursor = null;
  drag = null;
  zoom = null; // { from, to }, or null for the range that ends now
  skew = 0; // server clock minus local clock
  loaded = 0;

  constructor(section) {
    this.section = section;
    this.buttons = [...section.querySelectorAll('[data-range]')];
    const kept = sessionStorage.getItem('range');
    const first = this.buttons.find(button => button.dataset.range === kept)
      ?? this.buttons.find(button => button.getAttribute('aria-pressed') === 'true')
      ?? this.buttons.find(button => button.dataset.range === '86400') ?? this.buttons[0];
    this.span = Number(first?.dataset.range ?? 86400) * 1000;
    this.back = html('button', { type: 'button', textContent: 'Reset zoom', hidden: true });
    this.back.addEventListener('click', () => this.reset());
    this.note = html('p', { className: 'empty', textContent: 'Loading…' });
    this.note.setAttribute('role', 'status');
    for (const button of this.buttons) button.addEventListener('click', () => this.choose(button.dataset.range));
    (section.querySelector('.ranges') ?? section).append(this.back);
    section.append(this.note);
    new ResizeObserver(() => this.drawn && this.each(chart => chart.width !== chart.plot.clientWidth && chart.draw())).observe(section);
    const refresh = () => !document.hidden && !this.zoom && !this.drag && Date.now() - this.loaded >= REFRESH_MS && this.load();
    setInterval(refresh, 1_000);
    document.addEventListener('visibilitychange', refresh);
    this.load();
  }

  each(act) {
    for (const chart of this.charts.values()) act(chart);
  }

  choose(range) {
    sessionStorage.setItem('range', range);
    this.span = Number(range) * 1000;
    this.zoom = null;
    this.load();
  }

  setCursor(t) {
    this.cursor = t;
    this.each(chart => chart.showCursor());
  }

  setDrag(range) {
    this.drag = range;
    this.each(chart => chart.showDrag());
  }

  zoomTo(from, to) {
    const room = Math.max(0, LEAST_SPAN_MS - (to - from)) / 2;
    this.zoom = { from: Math.round(from - room), to: Math.round(to + room) };
    this.load();
  }

  zoomBy(factor) {
    if (!this.loaded) return;
    const span = (this.to - this.from) * factor;
    if (span >= this.span) return this.reset();
    const center = this.cursor ?? (this.from + this.to) / 2;
    const from = center - (center - this.from) * factor;
    this.zoomTo(from, from + span);
  }

  reset() {
    if (!this.zoom) return this.setCursor(null);
    this.zoom = null;
    this.load();
  }

  async load() {
    this.request?.abort();
    const mine = this.request = new AbortController();
    this.loaded = Date.now();
    const now = Date.now() + this.skew;
    const { from, to } = this.zoom ?? { from: now - this.span, to: now };
    for (const button of this.buttons) button.setAttribute('aria-pressed', String(!this.zoom && Number(button.dataset.range) * 1000 === this.span));
    this.back.hidden = !this.zoom;
    this.section.setAttribute('aria-busy', 'true');
    try {
      const url = new URL(this.section.dataset.curves, location);
      url.searchParams.set('from', Math.round(from));
      url.searchParams.set('to', Math.round(to));
      const answer = await fetch(url, { signal: AbortSignal.any([mine.signal, AbortSignal.timeout(TIMEOUT_MS)]) })
        .catch(error => { throw error.name === 'TypeError' ? new Error('the server cannot be reached') : error; });
      if (answer.status === 401 || new URL(answer.url).pathname === '/login') throw new Error('the session has ended');
      if (!answer.ok) throw new Error(`the server answered ${answer.status} ${answer.statusText}`);
      this.show(await answer.json());
    } catch (error) {
      if (mine === this.request) this.fail(error);
    } finally {
      if (mine === this.request) this.section.removeAttribute('aria-busy');
    }
  }

  show({ from, to, now, curves, marks }) {
    const skewed = Math.abs(now - Date.now() - this.skew) > this.span / 100;
    this.skew = now - Date.now();
    if (skewed && !this.zoom) this.loaded = 0; // asked with a wrong clock: ask again soon
    Object.assign(this, { from, to, marks: marks ?? [], drawn: true });
    this.note.remove();
    for (const [name, chart] of this.charts) {
      if (curves.some(curve => curve.name === name)) continue;
      chart.figure.remove();
      this.charts.delete(name);
    }
    for (const curve of curves) {
      const chart = this.charts.get(curve.name) ?? new Chart(this);
      if (!this.charts.has(curve.name)) {
        this.charts.set(curve.name, chart);
        this.section.append(chart.figure);
      }
      chart.update(curve);
    }
    if (curves.length) return;
    this.note.className = 'empty';
    this.note.textContent = 'No data in this range';
    this.section.append(this.note);
  }

  fail({ name, message }) {
    const reason = { TimeoutError: 'no answer in time', SyntaxError: 'the answer is not valid' }[name] ?? message;
    const again = html('button', { type: 'button', textContent: 'Try again' });
    again.addEventListener('click', () => this.load());
    this.note.className = 'notice error';
    this.note.replaceChildren(`The curves could not be loaded: ${reason}.`, again);
    const first = this.section.querySelector('figure');
    if (first) first.before(this.note);
    else this.section.append(this.note);
  }
}

for (const section of document.querySelectorAll('[data-curves]')) new Board(section);
