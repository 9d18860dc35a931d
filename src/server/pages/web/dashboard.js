// The dashboard: GET /performance once a second, drawn as charts. Rates are differences of two answers.
import { LineChart } from './chart.js';
import { askForKey, element, requestJson, startTheme } from './server.js';

const period = 1000, keep = 900;  // ms; samples
const $ = (id) => document.getElementById(id);

function number(value) {
    if (value >= 1000) return `${(value / 1000).toFixed(value >= 10000 ? 0 : 1)}k`;
    return value >= 100 || Number.isInteger(value) ? value.toFixed(0) : value.toFixed(value >= 1 ? 1 : 2);
}
function bytes(value) {
    const units = ['B', 'kB', 'MB', 'GB', 'TB'];
    let unit = 0;
    while (value >= 1000 && unit + 1 < units.length) {
        value /= 1000;
        ++unit;
    }
    return `${value.toFixed(value >= 100 || unit === 0 ? 0 : 1)} ${units[unit]}`;
}
const milliseconds = (value) => (value >= 1000 ? `${(value / 1000).toFixed(1)} s` : `${number(value)} ms`);
const percent = (value) => `${(100 * value).toFixed(0)} %`;

// What grew between two samples, a second.
const rate = (of) => (s) => (s.before ? Math.max(0, of(s) - of(s.before)) / (s.time - s.before.time) : null);
// Percentiles mean nothing before the first answer.
const latency = (name, which) => (s) => s[name]?.[which] ?? null;
const percentiles = (name) => ['p50', 'p90', 'p99'].map((p) => ({ name: p, value: latency(name, `${p}_ms`) }));

function modelCharts() {
    return [
        new LineChart('Tokens a second', [
            { name: 'answers', value: rate((s) => s.tokens.generated) },
            { name: 'prompts', value: rate((s) => s.tokens.prompt - s.tokens.cached) },
        ], number),
        new LineChart('Time to the first token', percentiles('time_to_first_token'), milliseconds),
        new LineChart('Time between tokens', percentiles('inter_token_latency'), milliseconds),
        new LineChart('Requests', [
            { name: 'running', value: (s) => s.queue.running },
            { name: 'waiting', value: (s) => s.queue.waiting },
            { name: 'paused', value: (s) => s.queue.paused },
        ], number),
        new LineChart('KV cache', [{ name: 'in use', value: (s) => s.kv_cache.use }], percent, 1),
        new LineChart('Memory', [
            { name: 'weights', value: (s) => s.memory.weight_bytes },
            { name: 'KV cache', value: (s) => s.memory.kv_bytes },
        ], bytes),
    ];
}

function serverCharts() {
    return [
        new LineChart('Processor', [{ name: 'cores busy', value: rate((s) => s.cpu_seconds) }], number),
        new LineChart('Memory of the process', [{ name: 'at most', value: (s) => s.process.peak_bytes }], bytes),
        new LineChart('Connections', [{ name: 'open', value: (s) => s.connections }], number),
        new LineChart('Requests a second', [
            { name: 'accepted', value: rate((s) => s.requests.accepted) },
            { name: 'refused', value: rate((s) => s.requests.rejected) },
        ], number),
    ];
}

function gpuCharts() {
    return [
        new LineChart('Busy', [{ name: 'of the time', value: (s) => s.busy_percent === null ? null : s.busy_percent / 100 }], percent, 1),
        new LineChart('Memory of the GPU', [
            { name: 'in use', value: (s) => s.memory_used_bytes },
            { name: 'all', value: (s) => s.memory_total_bytes },
        ], bytes),
        new LineChart('Power', [{ name: 'drawn', value: (s) => s.watts }], (value) => `${number(value)} W`),
        new LineChart('Temperature', [{ name: 'of the chip', value: (s) => s.celsius }], (value) => `${number(value)} °C`),
    ];
}

// A headline with facts, charts below it, and the samples that they show.
class Section {
    constructor(name, charts) {
        this.charts = charts;
        this.samples = [];
        this.state = element('span', { class: 'state' });
        this.facts = element('small');
        this.node = element('section', { 'aria-label': name },
            element('h2', {}, name, ' ', this.state, ' ', this.facts),
            element('div', { class: 'charts' }, ...charts.map((c) => c.node)));
    }
    add(sample, state, facts) {
        const { before, ...last } = this.samples.at(-1) ?? {};
        this.samples.push({ ...sample, before: this.samples.length > 0 ? last : null });
        if (this.samples.length > keep) this.samples.shift();
        this.state.textContent = state;
        this.state.classList.toggle('bad', !['ok', 'idle'].includes(state));
        this.facts.textContent = facts.join(' · ');
        this.draw();
    }
    draw() {
        for (const chart of this.charts) chart.show(this.samples, Number($('span').value));
    }
}

const server = new Section('Server', serverCharts());
const models = new Map();  // by name
const gpus = [];  // by number

function show(p) {
    const time = p.uptime_seconds;
    // The server was started again: its counters begin at 0.
    if (time < (server.samples.at(-1)?.time ?? 0)) {
        server.samples = [];
        for (const section of [...models.values(), ...gpus]) section.samples = [];
    }
    const failed = p.internal_errors > 0 ? [`${p.internal_errors} internal errors`] : [];
    server.add({ ...p, time, cpu_seconds: p.process.cpu_share * time }, 'ok',
        [`up ${(time / 60).toFixed(1)} min`, `${p.requests.received} requests`, ...failed]);
    for (const [i, gpu] of (p.gpus ?? []).entries()) {
        if (i === gpus.length) {
            gpus.push(new Section(`GPU ${i}`, gpuCharts()));
            $('models').append(gpus[i].node);
        }
        gpus[i].add({ ...gpu, time }, 'ok', [gpu.name, `driver ${gpu.driver}`]);
    }
    const names = new Set(p.models.map((m) => m.name));
    for (const [name, section] of models) {
        if (names.has(name)) continue;
        section.node.remove();
        models.delete(name);
    }
    for (const m of p.models) {
        if (!models.has(m.name)) {
            models.set(m.name, new Section(m.name, modelCharts()));
            server.node.before(models.get(m.name).node);
        }
        const { device_description: device, state } = m.device;
        models.get(m.name).add({ ...m, time }, state, [
            ...(device ? [device] : []), `${m.requests.completed} answers`,
            `${number(m.tokens.generated)} tokens written, ${number(m.tokens.prompt)} read, ${number(m.tokens.cached)} of them cached`,
        ]);
    }
}

let paused = false;
async function poll() {
    try {
        if (!paused && !document.hidden) {
            const p = await requestJson('performance');
            if (!paused) show(p);
            $('status').textContent = '';
        }
    } catch (e) {
        $('status').textContent = e.message;
        if (e.status === 401 && !(await askForKey(e.message))) return;
    }
    setTimeout(poll, period);
}

$('pause').addEventListener('click', () => {
    paused = !paused;
    $('pause').setAttribute('aria-pressed', String(paused));
    $('pause').textContent = paused ? 'Go on' : 'Pause';
});
$('span').addEventListener('change', () => [server, ...models.values(), ...gpus].forEach((s) => s.draw()));
$('models').append(server.node);
startTheme($('theme'));
poll();
