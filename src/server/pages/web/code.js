// Blocks of code with their colours and a button that copies them.
import highlight from './highlight.js';
import { copyText } from './server.js';

const maxColoured = 20_000;  // characters; longer code has no colours

// `element` counts what it makes.
export function codeBlock(text, language, element) {
    const copy = element('button', {
        type: 'button',
        click: async () => {
            copy.textContent = (await copyText(text)) ? 'Copied' : 'Not copied';
            setTimeout(() => (copy.textContent = 'Copy'), 1500);
        },
    }, 'Copy');
    return element('figure', { class: 'code' },
        element('figcaption', {}, element('span', {}, language || 'text'), copy),
        element('pre', { tabindex: '0' }, element('code', {}, ...coloured(text, language, element))));
}

// The library's tree as nodes, not as the HTML that it would write.
function coloured(text, language, element) {
    if (!language || text.length > maxColoured || !highlight.getLanguage(language)) return [text];
    const draw = (node) => {
        if (typeof node === 'string') return node;
        const children = node.children.map(draw);
        if (!node.scope) return element('span', {}, ...children);
        return element('span', { class: `hl-${node.scope.replace(/[^a-z].*/, '')}` }, ...children);
    };
    try {
        const result = highlight.highlight(text, { language, ignoreIllegals: true });
        return result._emitter.rootNode.children.map(draw);
    } catch {
        return [text];
    }
}
