// Markdown to DOM nodes, from what markdown-it makes of it: nothing that a model writes is parsed as HTML, loads
// anything or links to more than http, https and mailto. How much is drawn is bounded; the rest is shown as written.
import { codeBlock } from './code.js';
import { formula, formulaRules } from './formula.js';
import { element as makeElement } from './server.js';
import markdownit from './markdown-it.js';

const maxSource = 1 << 20;      // characters that are looked at for markup
const maxNesting = 24;          // of lists, quotes and emphasis
const maxInline = 1 << 14;      // characters of a paragraph with markup
const maxElements = 20_000;     // of a text
const maxCells = 5_000;         // of a table

const parser = markdownit({ html: false, linkify: true, breaks: true, maxNesting });
parser.validateLink = (url) => safeUrl(url) !== null;
parser.normalizeLink = (url) => safeUrl(url) ?? url;
parser.linkify.set({ fuzzyLink: false, fuzzyEmail: false });
parser.use(formulaRules);
// Blocks first, of the whole text; what is in them only where it is drawn.
parser.core.ruler.disable(['normalize', 'block', 'replacements', 'smartquotes']);

// An absolute address that a click may lead to; null for javascript:, data:, file: and what is relative.
function safeUrl(text) {
    try {
        const url = new URL(text);
        return ['http:', 'https:', 'mailto:'].includes(url.protocol) ? url.href : null;
    } catch {
        return null;
    }
}

let left = 0;  // elements that may still be made for the text
function element(...of) {
    --left;
    return makeElement(...of);
}

// Shows `source` in `target`. Called again with a longer text, it keeps the nodes of the blocks that did not change.
const shown = new WeakMap();
export function renderMarkdown(target, source) {
    const { blocks, links } = parse(source.replace(/\r\n?/g, '\n').replaceAll('\0', '\uFFFD'));
    const before = shown.get(target);
    const known = before?.links === links ? before.kept : [];  // another address of a link may be anywhere
    let same = 0;
    while (same < blocks.length && same < known.length && blocks[same].source === known[same].source) ++same;
    for (const old of (before?.kept ?? []).slice(same)) old.node.remove();
    const kept = known.slice(0, same);
    left = maxElements - kept.reduce((n, block) => n + block.elements, 0);
    for (let i = same; i < blocks.length; ++i) {
        const start = left;
        const rest = left > 0 ? null : blocks.slice(i).map((block) => block.source).join('\n\n');
        const node = rest === null ? draw(blocks[i]) : asWritten(rest);
        target.append(node);
        kept.push({ source: rest ?? blocks[i].source, node, elements: start - left });
        if (rest !== null) break;
    }
    shown.set(target, { kept, links });
}

function asWritten(text) {
    return element('pre', { class: 'as-written' }, text);
}

// The blocks of the outermost level, each with its source and its tokens, and what links have been defined.
function parse(text) {
    const cut = text.length <= maxSource ? text.length : text.lastIndexOf('\n', maxSource);
    const head = text.slice(0, Math.max(0, cut)), env = {}, tokens = [];
    parser.block.parse(head, parser, env, tokens);
    const lines = head.split('\n'), blocks = [];
    let depth = 0;
    for (const token of tokens) {
        if (depth === 0) {
            const source = lines.slice(...token.map).join('\n').trimEnd();
            blocks.push({ source, tokens: [], env, deep: false });
        }
        depth += token.nesting;
        blocks.at(-1).tokens.push(token);
        // markdown-it leaves out what is deeper.
        if (token.level >= maxNesting - 1) blocks.at(-1).deep = true;
    }
    if (cut < text.length) blocks.push({ source: text.slice(Math.max(0, cut)), tokens: [], env, deep: true });
    return { blocks, links: JSON.stringify(env.references ?? {}) };
}

function draw({ source, tokens, env, deep }) {
    const n_cells = tokens.filter((t) => t.type === 'td_open' || t.type === 'th_open').length;
    if (deep || (n_cells > maxCells && tokens[0].type === 'table_open')) return asWritten(source);
    for (const token of tokens) {
        if (token.type !== 'inline' || token.content.length <= maxInline) continue;
        Object.assign(token, { type: 'text', children: null });
    }
    const state = new parser.core.State('', parser, env);
    state.tokens = tokens.slice(0, 6 * maxElements);  // more are never drawn
    parser.core.process(state);
    const root = document.createDocumentFragment();
    drawTokens(root, state.tokens, source.split('\n'));
    // What made no node at all is still there to be read.
    return root.firstElementChild ?? asWritten(source);
}

const tags = new Set(['p', 'h1', 'h2', 'h3', 'h4', 'h5', 'h6', 'ul', 'ol', 'li', 'blockquote', 'table', 'thead', 'tbody',
    'tr', 'th', 'td', 'strong', 'em', 's']);

// Tokens that open and close elements, and those that are one. Blocks beyond the bound are their lines.
function drawTokens(root, tokens, lines) {
    const open = [root], first = tokens[0]?.map?.[0];
    for (const token of tokens) {
        const parent = open.at(-1);
        if (left <= 0 && lines && token.map && token.nesting >= 0) {
            parent.append(lines.slice(token.map[0] - first).join('\n'));
            return;
        }
        if (token.nesting === 1) {
            open.push(token.hidden || left <= 0 ? parent : drawOpening(parent, token));
        } else if (token.nesting === -1) {
            open.pop();
        } else if (token.type === 'inline') {
            drawTokens(parent, token.children);
        } else {
            drawOne(parent, token);
        }
    }
}

function drawOpening(parent, token) {
    if (token.type === 'link_open') {
        const url = safeUrl(token.attrGet('href'));
        const node = url === null ? element('span') : link(url);
        parent.append(node);
        return node;
    }
    if (!tags.has(token.tag)) return parent;
    const node = element(token.tag === 's' ? 'del' : token.tag);
    if (token.tag === 'ol' && token.attrGet('start') !== null) node.setAttribute('start', token.attrGet('start'));
    const side = /text-align:(left|right|center)/.exec(token.attrGet('style') ?? '');
    if (side) node.className = side[1];
    parent.append(token.tag === 'table' ? element('div', { class: 'table' }, node) : node);
    return node;
}

function drawOne(parent, token) {
    if (left <= 0) {
        parent.append(token.content || (token.type.endsWith('break') ? '\n' : ''));
        return;
    }
    switch (token.type) {
        case 'fence':
        case 'code_block':
            return parent.append(codeBlock(token.content.replace(/\n$/, ''), token.info.trim().split(/\s/)[0], element));
        case 'hr':
            return parent.append(element('hr'));
        case 'softbreak':
        case 'hardbreak':
            return parent.append(element('br'));
        case 'code_inline':
            return parent.append(element('code', {}, token.content));
        case 'image': {
            // Nothing is loaded from elsewhere.
            const url = safeUrl(token.attrGet('src'));
            return parent.append(url === null ? token.content : link(url, token.content || token.attrGet('src')));
        }
        case 'formula': {
            const { node, elements } = formula(token.content, token.markup, token.block);
            left -= elements;
            return parent.append(node);
        }
        default:
            return parent.append(token.content);
    }
}

function link(url, ...children) {
    return element('a', { href: url, target: '_blank', rel: 'noopener noreferrer' }, ...children);
}
