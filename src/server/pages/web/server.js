// What both pages need of the server: requests with the API key, the light or dark theme, small DOM helpers.
// Everything stays between this browser and this server.

const keyName = 'smelt.key', themeName = 'smelt.theme';

// localStorage may be off or full; the pages work without it.
export function load(name, fallback) {
    try {
        return JSON.parse(localStorage.getItem(name)) ?? fallback;
    } catch {
        return fallback;
    }
}
export function save(name, value) {
    try {
        localStorage.setItem(name, JSON.stringify(value));
        return true;
    } catch {
        return false;
    }
}

// An element with attributes (functions become listeners) and children, which are nodes or text: never HTML.
export function element(tag, attributes = {}, ...children) {
    const node = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) {
        if (typeof value === 'function') node.addEventListener(name, value);
        else if (value === true) node.setAttribute(name, '');
        else if (value !== false && value != null) node.setAttribute(name, value);
    }
    node.append(...children);
    return node;
}

export class ServerError extends Error {
    constructor(status, error) {
        super(error?.message ?? `the server answered ${status}`);
        this.status = status;
        this.code = error?.code;
    }
}

// Paths are relative to the page, so that a proxy may put the server under a path of its own.
export async function request(path, options = {}) {
    const key = load(keyName, '');
    const headers = { ...(key && { authorization: `Bearer ${key}` }), ...options.headers };
    let response;
    try {
        response = await fetch(path, { ...options, headers });
    } catch (e) {
        if (e.name === 'AbortError') throw e;
        throw new ServerError(0, { message: 'the server cannot be reached' });
    }
    if (response.ok) return response;
    const body = await response.json().catch(() => null);
    throw new ServerError(response.status, body?.error);
}

export async function requestJson(path) {
    return (await request(path)).json();
}

// Asks for the key with the page's <dialog id="key">; resolves when one was entered.
export function askForKey(why) {
    const dialog = document.getElementById('key');
    dialog.querySelector('.why').textContent = why;
    const input = dialog.querySelector('input');
    input.value = load(keyName, '');
    if (!dialog.open) dialog.showModal();
    return new Promise((done) => {
        dialog.addEventListener('close', () => {
            if (dialog.returnValue === 'ok') save(keyName, input.value.trim());
            done(dialog.returnValue === 'ok');
        }, { once: true });
    });
}

// The clipboard's own interface is there over HTTPS and on this machine alone; elsewhere the browser copies what
// is selected. False: it could not.
export async function copyText(text) {
    try {
        await navigator.clipboard.writeText(text);
        return true;
    } catch {
        const focused = document.activeElement;
        const area = element('textarea', { class: 'hidden', 'aria-hidden': 'true' });
        area.value = text;
        document.body.append(area);
        area.select();
        const copied = document.execCommand('copy');
        area.remove();
        focused?.focus();
        return copied;
    }
}

// Gives the person a file.
export function download(name, text) {
    const url = URL.createObjectURL(new Blob([text], { type: 'application/json' }));
    element('a', { href: url, download: name }).click();
    setTimeout(() => URL.revokeObjectURL(url), 10_000);
}

// auto follows the system.
export function startTheme(button) {
    const themes = ['auto', 'light', 'dark'];
    let theme = load(themeName, 'auto');
    const show = () => {
        document.documentElement.dataset.theme = theme;
        button.textContent = { auto: '◐', light: '☀', dark: '☾' }[theme] ?? '◐';
        button.setAttribute('aria-label', `Theme: ${theme}`);
        button.title = `Theme: ${theme}`;
    };
    button.addEventListener('click', () => {
        theme = themes[(themes.indexOf(theme) + 1) % themes.length];
        save(themeName, theme);
        show();
    });
    show();
}
