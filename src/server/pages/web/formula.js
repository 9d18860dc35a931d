// Formulae of LaTeX, $...$, $$...$$, \(...\) and \[...\], as MathML: how they are found in Markdown, and drawn.
import { element } from './server.js';
import temml from './temml.js';

const maxFormula = 2_000;  // characters; a longer one is shown as it is written

const pairs = [['$$', '$$'], ['\\[', '\\]'], ['\\(', '\\)'], ['$', '$']];

// The formula that begins at `start`; null: there is none. A dollar that is money stands beside a blank or a digit.
function find(text, start, max) {
    const pair = pairs.find(([mark]) => text.startsWith(mark, start));
    if (!pair) return null;
    const [mark, closing] = pair, from = start + mark.length;
    const near = text.slice(from, Math.min(max, from + maxFormula + closing.length));
    for (let end = 0; (end = near.indexOf(closing, end)) >= 0; ++end) {
        if (near[end - 1] === '\\' && mark.startsWith('$')) continue;
        const content = near.slice(0, end);
        const isMoney = mark === '$' && (/^\s|\s$|\n\s*\n/.test(content) || /\d/.test(near[end + 1] ?? ''));
        return isMoney || content.trim() === '' ? null : { mark, content, end: from + end + closing.length };
    }
    return null;
}

// For markdown-it: between paragraphs and within them.
export function formulaRules(parser) {
    parser.inline.ruler.before('escape', 'formula', (state, silent) => {
        const found = find(state.src, state.pos, state.posMax);
        if (!found) return false;
        if (!silent) Object.assign(state.push('formula', '', 0), { content: found.content, markup: found.mark });
        state.pos = found.end;
        return true;
    });
    parser.block.ruler.before('fence', 'formula', (state, first, last, silent) => {
        const start = state.bMarks[first] + state.tShift[first];
        if (state.sCount[first] - state.blkIndent >= 4) return false;
        const found = find(state.src, start, state.eMarks[last - 1]);
        if (!found || !['$$', '\\['].includes(found.mark)) return false;
        let next = first;
        while (next < last && state.eMarks[next] < found.end) ++next;
        if (next >= last || state.src.slice(found.end, state.eMarks[next]).trim() !== '') return false;
        if (silent) return true;
        const lines = state.getLines(first, next + 1, state.blkIndent, false).trim();
        const content = lines.slice(2, -2);
        Object.assign(state.push('formula', '', 0), { content, markup: found.mark, block: true, map: [first, next + 1] });
        state.line = next + 1;
        return true;
    }, { alt: ['paragraph', 'reference', 'blockquote', 'list'] });
}

// What one formula becomes, and how many elements that are. What is no formula is shown as it is written.
export function formula(content, mark, isBlock) {
    const node = element(isBlock ? 'p' : 'span', { class: isBlock ? 'formula block' : 'formula' });
    const displayMode = mark === '$$' || mark === '\\[';
    try {
        temml.render(content, node, { displayMode, throwOnError: true, trust: false, maxExpand: 200, maxSize: [20, 100] });
    } catch {
        const closing = pairs.find(([m]) => m === mark)[1];
        node.replaceChildren(element('code', {}, mark + content + closing));
    }
    // What a formula names must not pass for a part of the page, and leads nowhere.
    const inner = node.querySelectorAll('*');
    for (const e of inner) {
        for (const name of ['id', 'href', 'src', 'name']) e.removeAttribute(name);
    }
    return { node, elements: 1 + inner.length };
}
