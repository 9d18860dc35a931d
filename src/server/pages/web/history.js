// Conversations, kept in this browser alone: one localStorage entry each, so that two tabs do not overwrite each other.
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

// The oldest make room where the browser has none left. False: it could not be kept.
export function keepChat(chat) {
    chat.changed = Date.now();
    chat.title = chat.messages.find((m) => m.role === 'user')?.content.trim().slice(0, 80) ?? '';
    while (!save(prefix + chat.id, chat)) {
        const oldest = listChats().filter((c) => c.id !== chat.id).at(-1);
        if (!oldest) return false;
        dropChat(oldest.id);
    }
    return true;
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
