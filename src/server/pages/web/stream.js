// POST /v1/chat/completions as a stream of events. Nothing of the page.
import { request, ServerError } from './server.js';

// Calls on.thinking(text), on.answer(text) and, last, on.end({reason, timings}). Throws ServerError, or AbortError
// when `signal` says stop.
export async function streamAnswer(body, signal, on) {
    const response = await request('v1/chat/completions', {
        method: 'POST',
        headers: { 'content-type': 'application/json' },
        body: JSON.stringify({ ...body, stream: true }),
        signal,
    });
    let reason = null, timings = null, done = false;
    for await (const data of events(response)) {
        if (data === '[DONE]') {
            done = true;
            break;
        }
        const event = JSON.parse(data);
        if (event.error) throw new ServerError(response.status, event.error);
        const choice = event.choices?.[0];
        if (choice?.delta?.reasoning_content) on.thinking(choice.delta.reasoning_content);
        if (choice?.delta?.content) on.answer(choice.delta.content);
        reason = choice?.finish_reason ?? reason;
        timings = event.timings ?? timings;
    }
    if (!done) throw new ServerError(0, { message: 'the connection was lost' });
    on.end({ reason, timings });
}

async function* events(response) {
    const reader = response.body.getReader();
    const decoder = new TextDecoder();
    let buffer = '';
    while (true) {
        const { value, done } = await reader.read().catch((e) => {
            throw e.name === 'AbortError' ? e : new ServerError(0, { message: 'the connection was lost' });
        });
        if (done) return;
        buffer += decoder.decode(value, { stream: true });
        const lines = buffer.split('\n');
        buffer = lines.pop();
        for (const line of lines) {
            if (line.startsWith('data: ')) yield line.slice(6).trimEnd();
        }
    }
}
