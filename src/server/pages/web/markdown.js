// Markdown to DOM nodes: headings, lists, tables, quotes, code, emphasis, links. What a model writes is never parsed
// as HTML, loads nothing and links to http, https and mailto alone. Time is linear in the text's length.
import { copyText, element as makeElement } from './server.js';

const maxDepth = 8;             // of lists, quotes and emphasis; deeper is shown as it is written
const maxInline = 1 << 15;      // characters of a paragraph with markup; a longer one is shown as it is written
const maxElements = 20_000;     // of a text; what comes behind them is shown as it is written
const maxCells = 5_000;         // of a table; a larger one is shown as it is written

let left = 0;  // elements that may still be made for the text
function element(...of) {
    --left;
    return makeElement(...of);
}

// Shows `source` in `target`. Called again with a longer text, it keeps the nodes of the blocks that did not change.
const shown = new WeakMap();
export function renderMarkdown(target, source) {
    const before = shown.get(target) ?? [];
    const now = blocks(source.replace(/\r\n?/g, '\n').split('\n'));
    let same = 0;
    while (same < now.length && same < before.length && now[same].source === before[same].source) ++same;
    for (const old of before.slice(same)) old.node.remove();
    const kept = before.slice(0, same);
    left = maxElements - kept.reduce((n, block) => n + block.elements, 0);
    const keep = (source, make) => {
        const start = left;
        const node = make();
        target.append(node);
        kept.push({ source, node, elements: start - left });
    };
    for (let i = same; i < now.length; ++i) {
        if (left > 0) {
            keep(now[i].source, () => now[i].make(0));
        } else {
            const rest = now.slice(i).map((block) => block.source).join('\n\n');
            keep(rest, () => asWritten(rest));
            break;
        }
    }
    shown.set(target, kept);
}

function asWritten(text) {
    return element('pre', { class: 'as-written' }, text);
}

const fence = /^ {0,3}(`{3,}|~{3,})[ \t]*([^\s`]*)/;
const heading = /^ {0,3}(#{1,6})[ \t]+(.*)$/;
const quote = /^ {0,3}> ?/;
const item = /^( {0,12})([-*+]|\d{1,9}[.)])(?:[ \t]+|$)/;

function isRule(line) {
    const marks = line.replace(/[ \t]/g, '');
    return marks.length >= 3 && ['-', '*', '_'].includes(marks[0]) && marks === marks[0].repeat(marks.length);
}

// "Title ##" -> "Title"
function withoutMarks(text) {
    let end = text.trimEnd().length;
    while (text[end - 1] === '#') --end;
    return end === 0 || /\s/.test(text[end - 1]) ? text.slice(0, end).trimEnd() : text.trimEnd();
}

function cells(line) {
    const row = line.trim().replace(/^\|/, '').replace(/\|$/, '');
    return row.split(/(?<!\\)\|/).map((cell) => cell.trim().replaceAll('\\|', '|'));
}
function isTable(lines, i) {
    return lines[i].includes('|') && i + 1 < lines.length && lines[i + 1].includes('-') &&
        cells(lines[i + 1]).every((cell) => /^:?-+:?$/.test(cell)) &&
        cells(lines[i]).length === cells(lines[i + 1]).length;
}

// Each block knows its source, and how to make its node.
function blocks(lines) {
    const list = [];
    let i = 0;
    const add = (end, make) => {
        list.push({ source: lines.slice(i, end).join('\n'), make });
        i = end;
    };
    while (i < lines.length) {
        const line = lines[i];
        let match;
        if (line.trim() === '') {
            ++i;
        } else if ((match = fence.exec(line))) {
            const [, mark, language] = match;
            let end = i + 1;
            while (end < lines.length && !closes(lines[end], mark)) ++end;
            const text = lines.slice(i + 1, end).join('\n');
            add(Math.min(end + 1, lines.length), () => codeBlock(text, language));
        } else if ((match = heading.exec(line))) {
            const [, marks, text] = match;
            add(i + 1, (depth) => inline(element(`h${marks.length}`), withoutMarks(text), depth));
        } else if (isRule(line)) {
            add(i + 1, () => element('hr'));
        } else if (quote.test(line)) {
            let end = i;
            while (end < lines.length && quote.test(lines[end])) ++end;
            const inner = lines.slice(i, end).map((l) => l.replace(quote, ''));
            add(end, (depth) => nested(element('blockquote'), inner, depth + 1));
        } else if (isTable(lines, i)) {
            let end = i + 2;
            while (end < lines.length && lines[end].includes('|')) ++end;
            const rows = lines.slice(i, end);
            add(end, (depth) => table(rows, depth));
        } else if (item.test(line)) {
            const end = endOfList(lines, i);
            const inner = lines.slice(i, end);
            add(end, (depth) => makeList(inner, depth + 1));
        } else {
            let end = i + 1;
            while (end < lines.length && !startsBlock(lines, end)) ++end;
            const text = lines.slice(i, end).join('\n');
            add(end, (depth) => inline(element('p'), text, depth));
        }
    }
    return list;
}

function closes(line, mark) {
    const text = line.trim();
    return text.length >= mark.length && text === mark[0].repeat(text.length);
}

function startsBlock(lines, i) {
    const line = lines[i];
    return line.trim() === '' || fence.test(line) || heading.test(line) || quote.test(line) || isRule(line) ||
        item.test(line) || isTable(lines, i);
}

function nested(node, lines, depth) {
    if (depth > maxDepth) {
        node.append(lines.join('\n'));
        return node;
    }
    const all = blocks(lines);
    for (let i = 0; i < all.length; ++i) {
        if (left <= 0) {
            node.append(all.slice(i).map((block) => block.source).join('\n'));
            break;
        }
        node.append(all[i].make(depth));
    }
    return node;
}

const indent = (line) => line.length - line.trimStart().length;

function endOfList(lines, start) {
    const base = indent(lines[start]);
    let end = start + 1;
    for (let i = end; i < lines.length; ++i) {
        if (lines[i].trim() === '') continue;
        const goesOn = indent(lines[i]) > base || item.test(lines[i]) || (i === end && !startsBlock(lines, i));
        if (!goesOn) break;
        end = i + 1;
    }
    return end;
}

function makeList(lines, depth) {
    const base = indent(lines[0]), first = item.exec(lines[0])[2];
    const numbered = /\d/.test(first);
    const list = element(numbered ? 'ol' : 'ul', numbered ? { start: String(parseInt(first, 10)) } : {});
    let i = 0;
    while (i < lines.length) {
        if (left <= 0) {
            list.append(lines.slice(i).join('\n'));
            break;
        }
        const width = item.exec(lines[i])[0].length;
        const inner = [lines[i].slice(width)];
        for (++i; i < lines.length; ++i) {
            if (indent(lines[i]) <= base && item.test(lines[i])) break;
            inner.push(lines[i].slice(Math.min(width, indent(lines[i]))));
        }
        list.append(listItem(inner, depth));
    }
    return list;
}

function listItem(lines, depth) {
    const node = nested(element('li'), lines, depth);
    // A tight item is a line of text, not a paragraph.
    const first = node.firstElementChild;
    if (first?.tagName === 'P') first.replaceWith(...first.childNodes);
    return node;
}

function table(lines, depth) {
    if (cells(lines[1]).length * (lines.length - 1) > maxCells) return asWritten(lines.join('\n'));
    const align = cells(lines[1]).map((c) => (c.endsWith(':') ? (c.startsWith(':') ? 'center' : 'right') : 'left'));
    const row = (line, tag) => {
        const texts = cells(line);
        return element('tr', {}, ...align.map((side, i) =>
            inline(element(tag, { class: side }), texts[i] ?? '', depth)));
    };
    return element('div', { class: 'table' }, element('table', {},
        element('thead', {}, row(lines[0], 'th')),
        element('tbody', {}, ...lines.slice(2).map((line) => row(line, 'td')))));
}

function codeBlock(text, language) {
    const copy = element('button', {
        type: 'button',
        click: async () => {
            copy.textContent = (await copyText(text)) ? 'Copied' : 'Not copied';
            setTimeout(() => (copy.textContent = 'Copy'), 1500);
        },
    }, 'Copy');
    return element('figure', { class: 'code' },
        element('figcaption', {}, element('span', {}, language || 'text'), copy),
        element('pre', { tabindex: '0' }, element('code', {}, text)));
}

// An absolute address that a click may lead to; null for javascript:, data:, file: and what is relative.
function safeUrl(text) {
    try {
        const url = new URL(text);
        return ['http:', 'https:', 'mailto:'].includes(url.protocol) ? url.href : null;
    } catch {
        return null;
    }
}
function link(url, ...children) {
    return element('a', { href: url, target: '_blank', rel: 'noopener noreferrer' }, ...children);
}

const bareUrl = /https?:\/\/[^\s<>"'`\\]{1,2000}/y;
const markedLink = /!?\[([^\[\]\n]{0,500})\]\(\s{0,4}<?([^\s()<>]{1,2000})>?(?:\s{1,4}["'][^"'\n]{0,500}["'])?\s{0,4}\)/y;
const special = /[\\`*_~!\[<h\n]/g;
const emphasis = [['**', 'strong'], ['__', 'strong'], ['~~', 'del'], ['*', 'em'], ['_', 'em']];

// Puts `text` into `parent` and returns it.
function inline(parent, text, depth) {
    if (depth > maxDepth || text.length > maxInline || left <= 0) {
        parent.append(text);
        return parent;
    }
    const missing = new Set();  // marks with no end from here on; without it unclosed ones would cost a search each
    let plain = '', i = 0;
    const put = (node, end) => {
        if (plain !== '') parent.append(plain);
        plain = '';
        parent.append(node);
        i = end;
    };
    while (i < text.length) {
        special.lastIndex = i;
        const next = (left > 0 ? special.exec(text)?.index : null) ?? text.length;
        plain += text.slice(i, next);
        i = next;
        if (i === text.length) break;
        const found = newline(text, i) ?? escaped(text, i) ?? code(text, i, missing) ?? anyLink(text, i, depth) ??
            emphasised(text, i, missing, depth);
        if (found) put(found.node, found.end);
        else plain += text[i++];
    }
    parent.append(plain);
    return parent;
}

function newline(text, i) {
    return text[i] === '\n' ? { node: element('br'), end: i + 1 } : null;
}

function escaped(text, i) {
    const marked = text[i] === '\\' && /[!-/:-@[-`{-~]/.test(text[i + 1] ?? '');
    return marked ? { node: document.createTextNode(text[i + 1]), end: i + 2 } : null;
}

function code(text, i, missing) {
    if (text[i] !== '`' || text[i - 1] === '`') return null;
    let n = 1;
    while (text[i + n] === '`') ++n;
    const mark = '`'.repeat(n);
    if (missing.has(mark)) return null;
    let end = i + n;
    while ((end = text.indexOf(mark, end)) >= 0) {
        let after = end + n;
        while (text[after] === '`') ++after;
        if (after === end + n) break;
        end = after;
    }
    if (end < 0) {
        missing.add(mark);
        return null;
    }
    const inner = text.slice(i + n, end).replaceAll('\n', ' ');
    const padded = inner.startsWith(' ') && inner.endsWith(' ') && inner.trim() !== '';
    return { node: element('code', {}, padded ? inner.slice(1, -1) : inner), end: end + n };
}

// Images become links: nothing is loaded from elsewhere.
function anyLink(text, i, depth) {
    markedLink.lastIndex = i;
    const marked = text[i] === '[' || text[i] === '!' ? markedLink.exec(text) : null;
    if (marked) {
        const url = safeUrl(marked[2]);
        if (url === null) return { node: document.createTextNode(marked[0]), end: i + marked[0].length };
        const node = inline(link(url), marked[1] || marked[2], depth + 1);
        return { node, end: i + marked[0].length };
    }
    const angle = text[i] === '<' ? 1 : 0;
    bareUrl.lastIndex = i + angle;
    const bare = angle || (text[i] === 'h' && !/\w/.test(text[i - 1] ?? '')) ? bareUrl.exec(text) : null;
    if (!bare) return null;
    const address = bare[0].replace(/[.,;:!?)\]*_]+$/, '');
    const url = safeUrl(address);
    const closed = angle && text[i + 1 + bare[0].length] === '>';
    return url && { node: link(url, address), end: closed ? i + bare[0].length + 2 : i + angle + address.length };
}

function emphasised(text, i, missing, depth) {
    for (const [mark, tag] of emphasis) {
        if (!text.startsWith(mark, i) || missing.has(mark)) continue;
        if (/\s|^$/.test(text[i + mark.length] ?? '') || (mark[0] === '_' && /\w/.test(text[i - 1] ?? ''))) continue;
        const end = closing(text, i + mark.length, mark);
        if (end < 0) missing.add(mark);
        else return { node: inline(element(tag), text.slice(i + mark.length, end), depth + 1), end: end + mark.length };
    }
    return null;
}

function closing(text, from, mark) {
    for (let end = from; (end = text.indexOf(mark, end)) >= 0; ++end) {
        const doubled = mark.length === 1 && text[end + 1] === mark;
        const inWord = mark[0] === '_' && /\w/.test(text[end + mark.length] ?? '');
        if (end > from && !/\s/.test(text[end - 1]) && !doubled && !inWord) return end;
        if (doubled) ++end;
    }
    return -1;
}
