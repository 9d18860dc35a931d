// A line chart over time as SVG: axes, a line per series, and a cursor that follows the pointer or the arrow keys.
import { element } from './server.js';

const width = 360, height = 150, left = 46, right = 6, top = 8, bottom = 20;

function svg(tag, attributes, ...children) {
    const node = document.createElementNS('http://www.w3.org/2000/svg', tag);
    for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
    node.append(...children);
    return node;
}

// 1, 2 or 5 times a power of ten, so that at most five lines lie between 0 and `max`.
function gridStep(max) {
    const power = 10 ** Math.floor(Math.log10(max / 2.5));
    return [1, 2, 5, 10].map((f) => f * power).find((step) => max / step <= 5);
}

export class LineChart {
    // `series`: [{name, value(sample)}], value null where there is none. `format(number)` for axis and legend.
    constructor(title, series, format, max = null) {
        this.series = series;
        this.format = format;
        this.max = max;
        this.samples = [];
        this.seconds = 60;
        this.cursor = null;  // index of the sample that is read off; null: the latest
        this.values = series.map((s, i) => element('b', {}));
        const legend = series.map((s, i) => element('span', { class: `key s${i}` }, s.name, ' ', this.values[i]));
        this.plot = svg('svg', { viewBox: `0 0 ${width} ${height}`, role: 'img', tabindex: '0' });
        this.node = element('figure', { class: 'chart' },
            element('figcaption', {}, element('strong', {}, title), ...legend), this.plot);
        this.title = title;
        this.plot.addEventListener('pointermove', (event) => this.#point(event));
        this.plot.addEventListener('pointerleave', () => this.#read(null));
        this.plot.addEventListener('blur', () => this.#read(null));
        this.plot.addEventListener('keydown', (event) => {
            const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
            if (!step) return;
            event.preventDefault();
            const last = this.samples.length - 1;
            this.#read(Math.min(last, Math.max(this.#first(), (this.cursor ?? last) + step)));
        });
    }

    // `samples`: [{time, ...}], the oldest first, time in seconds; the last `seconds` of them are shown.
    show(samples, seconds) {
        this.samples = samples;
        this.seconds = seconds;
        this.#draw();
    }

    #read(cursor) {
        this.cursor = cursor;
        this.#draw();
    }
    #first() {
        const begin = (this.samples.at(-1)?.time ?? 0) - this.seconds;
        return Math.max(0, this.samples.findIndex((s) => s.time >= begin));
    }
    #x(time) {
        return width - right - (this.samples.at(-1).time - time) / this.seconds * (width - left - right);
    }
    #point(event) {
        const box = this.plot.getBoundingClientRect(), x = (event.clientX - box.left) / box.width * width;
        let best = null;
        for (let i = this.#first(); i < this.samples.length; ++i) {
            const distance = Math.abs(this.#x(this.samples[i].time) - x);
            if (best === null || distance < best.distance) best = { i, distance };
        }
        this.#read(best?.i ?? null);
    }

    #draw() {
        const visible = this.samples.slice(this.#first());
        const values = this.series.flatMap((s) => visible.map(s.value)).filter((v) => v !== null);
        const highest = Math.max(...values, 0);
        const max = this.max ?? (highest > 0 ? highest * 1.08 : 1);
        const y = (value) => height - bottom - value / max * (height - top - bottom);
        const nodes = [];
        for (let value = 0, step = gridStep(max); value <= max * 1.0001; value += step) {
            nodes.push(svg('line', { x1: left, x2: width - right, y1: y(value), y2: y(value), class: 'grid' }),
                svg('text', { x: left - 4, y: y(value) + 4, 'text-anchor': 'end' }, this.format(value)));
        }
        nodes.push(svg('text', { x: left, y: height - 4 }, `${this.seconds / 60} min ago`),
            svg('text', { x: width - right, y: height - 4, 'text-anchor': 'end' }, 'now'));
        this.series.forEach((s, i) => {
            for (const points of this.#runs(visible, s, y)) {
                nodes.push(svg('polyline', { points: points.join(' '), class: `line s${i}` }));
            }
        });
        const sample = this.samples[this.cursor ?? this.samples.length - 1];
        if (this.cursor !== null && sample) {
            const x = this.#x(sample.time);
            nodes.push(svg('line', { x1: x, x2: x, y1: top, y2: height - bottom, class: 'cursor' }));
        }
        this.plot.replaceChildren(...nodes);
        const texts = this.series.map((s, i) => {
            const value = sample ? s.value(sample) : null;
            this.values[i].textContent = value === null ? '–' : this.format(value);
            return `${s.name} ${this.values[i].textContent}`;
        });
        this.plot.setAttribute('aria-label', `${this.title}: ${texts.join(', ')}`);
    }

    // A line breaks where there is no value. A point alone becomes a short stroke.
    #runs(visible, series, y) {
        const runs = [];
        let run = null;
        for (const sample of visible) {
            const value = series.value(sample);
            if (value === null) {
                run = null;
                continue;
            }
            if (run === null) runs.push((run = []));
            const x = this.#x(sample.time);
            if (run.length === 0) run.push(`${(x - 1).toFixed(1)},${y(value).toFixed(1)}`);
            run.push(`${x.toFixed(1)},${y(value).toFixed(1)}`);
        }
        return runs;
    }
}
