// The chat page: which conversation is shown, what is sent, what the buttons do. Messages draw themselves (message.js).
import { dropChat, exportChats, findChats, importChats, keepChat, newChat, onOtherTab } from './history.js';
import { contentParts, MessageView } from './message.js';
import { isPicture, maxPictures, readPicture } from './pictures.js';
import { askForKey, download, element, load, requestJson, save, ServerError, startTheme } from './server.js';
import { streamAnswer } from './stream.js';

const $ = (id) => document.getElementById(id);
const panel = $('panel'), log = $('log'), field = $('message');

let chat = newChat();
let running = null;  // {chat, message, stop}: the answer under way
let views = new Map();  // of the messages that are shown

// --- settings

const settingsName = 'smelt.settings';
const numbers = ['temperature', 'top_p', 'top_k', 'min_p', 'repetition_penalty', 'max_completion_tokens', 'seed'];

// The system message belongs to the conversation; a new one begins with the latest.
function keepSettings() {
    save(settingsName, { ...Object.fromEntries(new FormData(panel)), model: $('model').value });
    chat.system = panel.elements.system.value;
    if (chat.messages.length > 0) keep(chat);
}

function showSettings() {
    for (const [name, value] of Object.entries(load(settingsName, {}))) {
        if (panel.elements[name]) panel.elements[name].value = value;
    }
}

function requestBody(messages) {
    const values = new FormData(panel);
    const body = { model: $('model').value || undefined, messages: [] };
    for (const name of numbers) {
        const text = values.get(name).trim();
        if (text !== '') body[name] = Number(text);
    }
    if (values.get('thinking')) body.chat_template_kwargs = { enable_thinking: values.get('thinking') === 'on' };
    if (values.get('system').trim()) body.messages.push({ role: 'system', content: values.get('system') });
    for (const message of messages) body.messages.push({ role: message.role, content: contentParts(message) });
    return body;
}

// Conversations are lost only when the person says so.
function keep(about) {
    const mayDrop = (oldest) => confirm(
        `The browser has no room left. Delete the oldest conversation, “${oldest.title || 'empty'}”? Export keeps all of them in a file.`);
    const kept = keepChat(about, mayDrop);
    if (!kept) say('The conversation does not fit into the browser and is not kept.');
    return kept;
}

// --- what is shown

function say(text) {
    $('status').textContent = text;
}

function showChats() {
    $('chats').replaceChildren(...findChats($('search').value).map((c) => element('li', {},
        element('button', {
            type: 'button', class: 'open', 'aria-current': c.id === chat.id && 'true', click: () => openChat(c),
        }, c.title || 'empty'),
        element('button', { type: 'button', 'aria-label': `Rename ${c.title}`, click: () => renameChat(c) }, '✎'),
        element('button', { type: 'button', 'aria-label': `Delete ${c.title}`, click: () => deleteChat(c) }, '✕'))));
}

function showMessages() {
    // Those that were shown stay as they are: thoughts unfolded, a text under edit.
    const view = (message) => views.get(message) ?? new MessageView(message, { edit, regenerate });
    views = new Map(chat.messages.map((message) => [message, view(message)]));
    log.replaceChildren(...[...views.values()].map((v) => v.node));
    if (chat.messages.length === 0) log.append(element('p', { class: 'empty' }, 'What would you like to know?'));
    following = true;
    showRunning();
}

// A field that has the focus must not vanish under it.
function showRunning() {
    const focused = [$('send'), $('stop')].includes(document.activeElement);
    $('send').hidden = running !== null;
    $('stop').hidden = running === null;
    if (focused) field.focus();
    for (const view of views.values()) view.update(running?.message === view.message, running !== null);
    follow();
}

// The end of the log stays in view, until the person scrolls up.
let following = true, lastTop = 0;
function follow() {
    if (following) log.scrollTop = log.scrollHeight;
}
log.addEventListener('scroll', () => {
    if (log.scrollHeight - log.scrollTop - log.clientHeight < 40) following = true;
    else if (log.scrollTop < lastTop) following = false;
    lastTop = log.scrollTop;
});
addEventListener('resize', follow);

// Drawing takes at most a quarter of the time, however long the answer is.
function refresh(message) {
    if (message.drawn) return;
    message.drawn = setTimeout(() => {
        const started = performance.now();
        views.get(message)?.update(running?.message === message, running !== null);
        follow();
        refresh.pause = Math.min(2000, Math.max(40, 3 * (performance.now() - started)));
        message.drawn = 0;
    }, refresh.pause ?? 40);
}

// --- conversations

function openChat(other) {
    chat = running?.chat.id === other.id ? running.chat : other;
    chat.system ??= load(settingsName, {}).system ?? '';
    panel.elements.system.value = chat.system;
    closeSide();
    showChats();
    showMessages();
    field.focus();
}

function closeSide() {
    document.body.classList.remove('side-open');
    $('open-side').setAttribute('aria-expanded', 'false');
}

function renameChat(c) {
    const name = prompt('Name of the conversation', c.title)?.trim();
    if (name === undefined) return;
    const target = c.id === chat.id ? chat : c;
    target.name = name.slice(0, 80);
    keep(target);
    showChats();
}

function deleteChat(c) {
    if (!confirm(`Delete “${c.title || 'empty'}”?`)) return;
    if (running?.chat.id === c.id) running.stop.abort();
    dropChat(c.id);
    if (c.id === chat.id) openChat(newChat());
    else showChats();
}

// --- answers

// The last message of `chat` is the person's; the model's is added to it.
async function answer() {
    const about = chat, body = requestBody(about.messages);
    const message = { role: 'assistant', content: '', thinking: '', model: body.model };
    Object.defineProperty(message, 'drawn', { value: 0, writable: true });  // not kept
    about.messages.push(message);
    const stop = new AbortController();
    running = { chat: about, message, stop };
    showMessages();
    showChats();
    let n_pieces = 0, first = 0;
    const piece = (part, text) => {
        message[part] += text;
        const now = performance.now();
        first ||= now;
        ++n_pieces;
        if (now > first) message.speed = { tokens: n_pieces, rate: (n_pieces - 1) / ((now - first) / 1000) };
        refresh(message);
    };
    try {
        await streamAnswer(body, stop.signal, {
            thinking: (text) => piece('thinking', text),
            answer: (text) => piece('content', text),
            end: ({ reason, timings }) => {
                message.reason = reason;
                if (timings) {
                    message.speed = {
                        tokens: timings.predicted_n, rate: timings.predicted_per_second,
                        first: (timings.queued_ms + timings.prompt_ms) / 1000,
                    };
                }
            },
        });
        say('The answer is complete.');
    } catch (e) {
        if (e.name === 'AbortError') message.reason = 'stopped';
        else message.error = e.message;
        say(message.error ?? 'Stopped.');
        if (e instanceof ServerError && e.status === 401) needKey(e.message);
    }
    running = null;
    keep(about);
    showChats();
    showRunning();
}

function send() {
    const content = field.value;
    if (running || (content.trim() === '' && pictures.length === 0) || $('blind').textContent) return;
    field.value = '';
    grow();
    chat.messages.push({ role: 'user', content, ...(pictures.length > 0 && { pictures }) });
    showPictures([]);
    keep(chat);
    answer();
}

// A person's message is asked again as it is now; a model's stays as it was edited.
function edit(message, content) {
    message.content = content;
    keep(chat);
    if (message.role === 'user' && !running) {
        chat.messages.length = chat.messages.indexOf(message) + 1;
        answer();
    } else {
        views.get(message).update(false, running !== null);
    }
}

function regenerate(message) {
    if (running) return;
    chat.messages.length = chat.messages.indexOf(message) + (message.role === 'user' ? 1 : 0);
    answer();
}

let pictures = [];  // of the next message

function showPictures(list) {
    pictures = list;
    $('shown').hidden = list.length === 0;
    $('pictures').replaceChildren(...list.map((url, i) => element('li', {},
        element('img', { src: url, alt: `Picture ${i + 1}` }),
        element('button', {
            type: 'button', 'aria-label': `Remove picture ${i + 1}`,
            click: () => {
                showPictures(pictures.filter((_, j) => j !== i));
                field.focus();
            },
        }, '✕'))));
    showBlindness();
}

// Which of the chosen model's kind cannot be sent pictures. Of auto the server chooses one that sees.
function showBlindness() {
    const name = $('model').value, m = models.find((x) => x.name === name);
    const sees = m ? m.takes_pictures !== false : models.length === 0 || models.some((x) => x.takes_pictures !== false);
    $('blind').textContent = pictures.length > 0 && !sees
        ? `${m ? `The model ${name} sees` : 'The models here see'} text alone: remove the pictures, or choose a model that sees them.`
        : '';
}

// Pictures go with the message; text files become part of it, each under its name.
async function attach(files) {
    const maxBytes = 1 << 20;
    for (const file of files) {
        try {
            if (isPicture(file)) {
                if (pictures.length >= maxPictures) throw new Error(`a message has at most ${maxPictures} pictures`);
                const url = await readPicture(file);
                if (pictures.length < maxPictures) showPictures([...pictures, url]);
                continue;
            }
            if (file.size > maxBytes) throw new Error('larger than 1 MB');
            const text = new TextDecoder('utf-8', { fatal: true }).decode(await file.arrayBuffer());
            if (text.includes('\0')) throw new Error('no text');
            const fence = '`'.repeat(Math.max(3, ...[...text.matchAll(/`+/g)].map((m) => m[0].length + 1)));
            const before = field.value.trimEnd();
            field.value = `${before}${before && '\n\n'}${file.name}:\n${fence}\n${text.trimEnd()}\n${fence}\n`;
        } catch (e) {
            alert(`${file.name}: ${e instanceof TypeError ? 'not a text in UTF-8' : e.message}`);
        }
    }
    grow();
    field.focus();
}

// --- the server

let models = [];  // as GET /models has them

function showDetails() {
    const m = models.find((x) => x.name === $('model').value);
    const bytes = (n) => (n >= 1e9 ? `${(n / 1e9).toFixed(1)} GB` : `${(n / 1e6).toFixed(1)} MB`);
    $('details').textContent = m?.context
        ? `${m.architecture}, ${bytes(m.weight_bytes)} of weights, context of ${m.context} tokens, ${m.device_description}`
        : '';
}

async function showModels() {
    const { data } = await requestJson('v1/models');
    const names = data.map((m) => m.id);
    if (names.length > 1) names.push('auto');
    const wanted = $('model').value || load(settingsName, {}).model;
    $('model').replaceChildren(...names.map((name) => element('option', { selected: name === wanted }, name)));
    models = (await requestJson('models')).models;
    showDetails();
    showBlindness();
}

async function needKey(why) {
    $('open-key').hidden = false;
    if (await askForKey(why)) await connect();
}

async function connect() {
    try {
        await showModels();
    } catch (e) {
        if (e.status === 401) await needKey(e.message);
        else say(e.message);
        log.querySelector('.empty')?.replaceChildren(e.message);
    }
}

// --- controls

function grow() {
    field.rows = Math.min(12, field.value.split('\n').length);
}

function toggle(button, shown) {
    button.setAttribute('aria-expanded', String(shown));
}

$('composer').addEventListener('submit', (event) => {
    event.preventDefault();
    send();
});
field.addEventListener('input', grow);
field.addEventListener('keydown', (event) => {
    if (event.key !== 'Enter' || event.shiftKey || event.isComposing) return;
    event.preventDefault();
    send();
});
$('stop').addEventListener('click', () => running?.stop.abort());
addEventListener('keydown', (event) => {
    if (event.key !== 'Escape') return;
    if (document.body.classList.contains('side-open')) closeSide();
    else if (!$('key').open) running?.stop.abort();
});
$('new').addEventListener('click', () => openChat(newChat()));
$('open-side').addEventListener('click', () => {
    toggle($('open-side'), document.body.classList.toggle('side-open'));
});
$('open-panel').addEventListener('click', () => {
    panel.hidden = !panel.hidden;
    toggle($('open-panel'), !panel.hidden);
});
$('open-key').addEventListener('click', () => needKey('The server needs a key.'));
panel.addEventListener('input', keepSettings);
panel.addEventListener('submit', (event) => event.preventDefault());
panel.addEventListener('reset', () => setTimeout(keepSettings));
$('model').addEventListener('change', keepSettings);
$('model').addEventListener('change', showDetails);
$('model').addEventListener('change', showBlindness);
$('search').addEventListener('input', showChats);
$('export').addEventListener('click', () => download('smelt-conversations.json', exportChats()));
$('import').addEventListener('click', () => $('import-file').click());
$('import-file').addEventListener('change', async (event) => {
    const [file] = event.target.files;
    event.target.value = '';
    try {
        if (file) say(`${importChats(await file.text())} conversations imported.`);
    } catch (e) {
        alert(`${file.name}: ${e.message}`);
    }
    showChats();
});
$('attach').addEventListener('click', () => $('files').click());
$('files').addEventListener('change', async (event) => {
    const files = [...event.target.files];
    event.target.value = '';
    await attach(files);
});
// What is pasted as text as well, as from a table or a page, is text.
addEventListener('paste', (event) => {
    const files = [...event.clipboardData.files];
    if (files.length === 0 || event.clipboardData.types.includes('text/plain')) return;
    event.preventDefault();
    attach(files);
});
const hasFiles = (event) => event.dataTransfer?.types.includes('Files');
addEventListener('dragover', (event) => {
    if (!hasFiles(event)) return;
    event.preventDefault();
    document.body.classList.add('dropping');
});
for (const name of ['dragleave', 'dragend', 'drop']) {
    addEventListener(name, (event) => {
        if (name !== 'dragleave' || event.relatedTarget === null) document.body.classList.remove('dropping');
    });
}
addEventListener('drop', (event) => {
    if (!hasFiles(event)) return;
    event.preventDefault();
    attach([...event.dataTransfer.files]);
});
// On a phone the list covers the page; a touch beside it closes it.
document.querySelector('main').addEventListener('pointerdown', (event) => {
    if (event.target !== $('open-side')) closeSide();
});
addEventListener('beforeunload', () => running && keepChat(running.chat, () => false));
onOtherTab(showChats);
startTheme($('theme'));
showSettings();
chat.system = panel.elements.system.value;
showChats();
showMessages();
connect();
