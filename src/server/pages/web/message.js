// One message on the page: its text, the thinking folded above it, what went wrong, and its buttons.
import { renderMarkdown } from './markdown.js';
import { copyText, element } from './server.js';

const endings = {
    stop: 'ended by itself', length: 'ended at the limit of tokens', stopped: 'stopped by you',
    tool_calls: 'ended with a call of a tool', content_filter: 'ended by a filter',
};

// As the server takes it: text, or pictures with the text after them.
export function contentParts({ content, pictures }) {
    if (!pictures?.length) return content;
    const parts = pictures.map((url) => ({ type: 'image_url', image_url: { url } }));
    return content.trim() === '' ? parts : [...parts, { type: 'text', text: content }];
}

export class MessageView {
    // `on` has edit(message, text) and regenerate(message).
    constructor(message, on) {
        this.message = message;
        this.on = on;
        this.text = element('div', { class: 'text' });
        this.pictures = element('div', { class: 'pictures' },
            ...(message.pictures ?? []).map((url, i) => element('img', { src: url, alt: `Picture ${i + 1}` })));
        this.pictures.hidden = !message.pictures?.length;
        this.error = element('p', { class: 'error', role: 'alert' });
        this.facts = element('small', { class: 'facts' });
        this.thought = element('div');
        this.summary = element('summary');
        this.thinking = element('details', { class: 'thinking' }, this.summary, this.thought);
        this.buttons = [
            this.#button('Copy', () => copyText(message.content)),
            this.#button('Edit', () => this.#edit()),
            this.#button('Regenerate', () => on.regenerate(message)),
        ];
        const who = message.role === 'user' ? 'You' : message.model || 'Model';
        this.node = element('article', { class: message.role, 'aria-label': who },
            this.thinking, this.pictures, this.text, this.error, element('footer', {}, ...this.buttons, this.facts));
    }

    // Shows what the message is now. `streams`: it still grows; `busy`: some answer does.
    update(streams, busy) {
        const { role, content, thinking, error } = this.message;
        if (role === 'user') this.text.textContent = content;
        else renderMarkdown(this.text, content);
        this.text.hidden = role === 'user' && content.trim() === '';
        this.thinking.hidden = !thinking;
        this.summary.textContent = streams && !content ? 'Thinking …' : 'Thoughts';
        if (this.thought.textContent !== thinking) this.thought.textContent = thinking ?? '';
        this.error.hidden = !error;
        this.error.textContent = error ?? '';
        this.facts.textContent = this.#facts();
        this.node.setAttribute('aria-busy', String(streams));
        for (const button of this.buttons) {
            button.hidden = streams;
            button.disabled = busy && button.textContent !== 'Copy';
        }
    }

    #facts() {
        const { speed, reason } = this.message, facts = [];
        if (speed) facts.push(`${speed.tokens} tokens`, `${speed.rate.toFixed(1)} tok/s`);
        if (speed?.first !== undefined) facts.push(`first token after ${speed.first.toFixed(3)} s`);
        if (endings[reason]) facts.push(endings[reason]);
        return facts.join(', ');
    }

    #edit() {
        const area = element('textarea', { 'aria-label': 'Message text' });
        area.value = this.message.content;
        const close = () => {
            form.replaceWith(this.text);
            this.buttons[1].focus();
        };
        const form = element('form', {
            submit: (event) => {
                event.preventDefault();
                close();
                this.on.edit(this.message, area.value);
            },
            keydown: (event) => {
                if (event.key === 'Escape') close();
            },
        }, area, element('button', { type: 'submit' }, this.message.role === 'user' ? 'Send' : 'Save'), ' ',
        element('button', { type: 'button', click: close }, 'Cancel'));
        this.text.replaceWith(form);
        area.focus();
    }

    #button(name, click) {
        return element('button', { type: 'button', click }, name);
    }
}
