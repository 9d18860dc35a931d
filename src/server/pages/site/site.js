// Search over all pages and the list of pages on a phone. The texts are in search-index.js; nothing is asked for anywhere.
'use strict';

const field = document.getElementById('site-search'), results = document.getElementById('site-results');
const menu = document.getElementById('site-menu'), list = document.getElementById('site-pages');
const most = 20;  // shown

menu.addEventListener('click', () => menu.setAttribute('aria-expanded', String(list.classList.toggle('open'))));

function wordsOf(text) {
    return text.toLowerCase().split(/\s+/).filter(Boolean);
}

// Every word has to be in the section, its heading or its page's title; headings and titles count more.
function find(words) {
    const found = [];
    for (const [page, title, sections] of smeltPages) {
        const name = title.toLowerCase();
        for (const [anchor, heading, text] of sections) {
            const head = heading.toLowerCase(), body = text.toLowerCase();
            let score = 0;
            for (const word of words) {
                const at = (name.includes(word) ? 4 : 0) + (head.includes(word) ? 8 : 0) + (body.includes(word) ? 1 : 0);
                score = at === 0 ? -Infinity : score + at;
            }
            if (score > 0) found.push({ page, title, anchor, heading, text, score });
        }
    }
    return found.sort((a, b) => b.score - a.score).slice(0, most);
}

function excerpt(text, words) {
    const places = words.map((w) => text.toLowerCase().indexOf(w)).filter((p) => p >= 0);
    const start = Math.max(0, Math.min(...places, text.length) - 50);
    return (start > 0 ? '… ' : '') + text.slice(start, start + 150) + (start + 150 < text.length ? ' …' : '');
}

function element(tag, text, ...children) {
    const e = document.createElement(tag);
    e.append(...(text ? [text] : []), ...children);
    return e;
}

function show() {
    const words = wordsOf(field.value);
    results.hidden = words.length === 0;
    if (words.length === 0) return;
    const found = find(words);
    results.replaceChildren(...found.map((f) => {
        const link = element('a', '', element('b', f.title), f.heading ? ` › ${f.heading}` : '', element('small', excerpt(f.text, words)));
        link.href = f.page + (f.anchor ? `#${f.anchor}` : '');
        link.addEventListener('click', () => (results.hidden = true));
        return element('li', '', link);
    }));
    if (found.length === 0) {
        const none = element('li', 'Nothing has all of these words.');
        none.className = 'none';
        results.append(none);
    }
}

field.addEventListener('input', show);
field.addEventListener('focus', show);
field.form.addEventListener('submit', (event) => {
    event.preventDefault();
    results.querySelector('a')?.click();
});
document.addEventListener('keydown', (event) => {
    if (event.key === 'Escape') {
        results.hidden = true;
    } else if (event.key === '/' && document.activeElement !== field && !event.ctrlKey && !event.metaKey && !event.altKey) {
        event.preventDefault();
        field.focus();
    } else if ((event.key === 'ArrowDown' || event.key === 'ArrowUp') && !results.hidden) {
        const links = [...results.querySelectorAll('a')], at = links.indexOf(document.activeElement);
        const next = at + (event.key === 'ArrowDown' ? 1 : -1);
        event.preventDefault();
        (next < 0 ? field : links[Math.min(next, links.length - 1)])?.focus();
    }
});
document.addEventListener('click', (event) => {
    if (!results.contains(event.target) && event.target !== field) results.hidden = true;
});
