// Conversations, kept in this browser alone: one localStorage entry each, so that two tabs do not overwrite each other.
import { isPictureList } from './pictures.js';
import { load, save } from './server.js';

const prefix = 'smelt.chat.';

export function newChat() {
    const random = crypto.getRandomValues(new Uint32Array(2));
    return { id: `${Date.now().toString(36)}-${random[0].toString(36)}`, title: '', changed: 0, messages: [] };
}

// The latest first.
export function listChats() {
    const chats = [];
    try {
        for (const name of Object.keys(localStorage)) {
            const chat = name.startsWith(prefix) ? load(name, null) : null;
            if (chat?.id && Array.isArray(chat.messages)) chats.push(chat);
        }
    } catch {
        // storage is off
    }
    return chats.sort((a, b) => b.changed - a.changed);
}

// Where the browser has no room left, the oldest go, if `mayDrop(chat)` says so. False: it could not be kept.
export function keepChat(chat, mayDrop) {
    chat.changed = Date.now();
    const first = chat.messages.find((m) => m.role === 'user');
    chat.title = chat.name || first?.content.trim().slice(0, 80) || (first?.pictures ? 'Picture' : '');
    while (!save(prefix + chat.id, chat)) {
        const oldest = listChats().filter((c) => c.id !== chat.id).at(-1);
        if (!oldest || !mayDrop(oldest)) return false;
        dropChat(oldest.id);
    }
    return true;
}

// All conversations as the text of a file, and back. Those that are here already stay unless the file's is later.
export function exportChats() {
    return JSON.stringify({ smelt: 'conversations', version: 1, chats: listChats() }, null, 1);
}
export function importChats(text) {
    let file = null;
    try {
        file = JSON.parse(text);
    } catch {
        // said below
    }
    const isMessage = (m) => ['user', 'assistant'].includes(m?.role) && typeof m.content === 'string' &&
        (m.pictures === undefined || isPictureList(m.pictures));
    const isChat = (c) => typeof c?.id === 'string' && /^[\w-]{1,64}$/.test(c.id) && Array.isArray(c.messages) &&
        c.messages.every(isMessage);
    if (file?.smelt !== 'conversations' || !Array.isArray(file.chats) || !file.chats.every(isChat)) {
        throw new Error('expected a file that this page exported');
    }
    const here = new Map(listChats().map((c) => [c.id, c.changed]));
    const later = file.chats.filter((c) => !(here.get(c.id) >= c.changed));
    return later.filter((c) => save(prefix + c.id, c)).length;
}

export function findChats(words) {
    const wanted = words.toLowerCase();
    const has = (text) => text?.toLowerCase().includes(wanted);
    return listChats().filter((c) => has(c.title) || c.messages.some((m) => has(m.content)));
}

export function dropChat(id) {
    try {
        localStorage.removeItem(prefix + id);
    } catch {
        // storage is off
    }
}

export function onOtherTab(changed) {
    addEventListener('storage', (event) => {
        if (event.key === null || event.key.startsWith(prefix)) changed();
    });
}
