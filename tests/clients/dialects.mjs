// Anthropic's and Ollama's clients against the bundled model. usage: node dialects.mjs http://127.0.0.1:PORT
import assert from 'node:assert/strict';
import test from 'node:test';

import Anthropic from '@anthropic-ai/sdk';
import { Ollama } from 'ollama';

const base = process.argv[2];
const model = 'demo-23m';
const question = 'What is 12 + 30?';
const answer = '12 + 30 = 42';
const messages = [{ role: 'user', content: question }];
const weather = [{ role: 'user', content: 'What is the weather in Paris?' }];
const city = { type: 'object', properties: { city: { type: 'string' } }, required: ['city'] };
const description = 'Current weather of a city';
const result = '{"temperature": 21, "condition": "sunny"}';

const anthropic = new Anthropic({ baseURL: base, apiKey: 'any' });
const tools = [{ name: 'get_weather', description, input_schema: city }];

test('anthropic: a message, whole', async () => {
    const m = await anthropic.messages.create({ model, max_tokens: 100, temperature: 0, messages });
    assert.deepEqual(m.content, [{ type: 'text', text: answer }]);
    assert.equal(m.stop_reason, 'end_turn');
    assert.ok(m.usage.output_tokens > 0);
});

test('anthropic: streamed, with thinking', async () => {
    const stream = anthropic.messages.stream({
        model, max_tokens: 1100, temperature: 0, messages, thinking: { type: 'enabled', budget_tokens: 1024 },
    });
    let text = '';
    stream.on('text', (piece) => (text += piece));
    const m = await stream.finalMessage();
    assert.equal(text, answer);
    assert.deepEqual(m.content.map((b) => b.type), ['thinking', 'text']);
    assert.equal(m.content[0].thinking, '12 + 30 equals 42.');
    assert.equal(m.stop_reason, 'end_turn');
});

test('anthropic: tools there and back, streamed', async () => {
    const call = await anthropic.messages.stream({ model, max_tokens: 100, temperature: 0, messages: weather, tools }).finalMessage();
    assert.equal(call.stop_reason, 'tool_use');
    const [use] = call.content;
    assert.deepEqual([use.name, use.input], ['get_weather', { city: 'Paris' }]);
    const m = await anthropic.messages.create({
        model, max_tokens: 100, temperature: 0, tools,
        messages: [...weather, { role: 'assistant', content: call.content },
            { role: 'user', content: [{ type: 'tool_result', tool_use_id: use.id, content: result }] }],
    });
    assert.match(m.content[0].text, /21/);
});

test('anthropic: its tool runner', async () => {
    const asked = [];
    const m = await anthropic.beta.messages.toolRunner({
        model, max_tokens: 100, temperature: 0, messages: weather,
        tools: [{ ...tools[0], run: ({ city }) => (asked.push(city), result), parse: (input) => input }],
    });
    assert.deepEqual(asked, ['Paris']);
    assert.match(m.content[0].text, /21/);
});

test('anthropic: tokens are counted, errors are its own classes', async () => {
    const { input_tokens } = await anthropic.messages.countTokens({ model, messages });
    assert.ok(input_tokens > 5);
    await assert.rejects(anthropic.messages.create({ model: 'claude-9', max_tokens: 1, messages }), Anthropic.NotFoundError);
    await assert.rejects(anthropic.messages.create({ model, max_tokens: 1, messages, temperature: 3 }), (e) => {
        assert.ok(e instanceof Anthropic.BadRequestError);
        assert.equal(e.error.error.type, 'invalid_request_error');
        return true;
    });
});

const ollama = new Ollama({ host: base });
const options = { temperature: 0 };
const functions = [{ type: 'function', function: { name: 'get_weather', description, parameters: city } }];

test('ollama: chat, whole and streamed', async () => {
    const whole = await ollama.chat({ model, messages, options });
    assert.equal(whole.message.content, answer);
    assert.equal(whole.message.thinking, '12 + 30 equals 42.');
    assert.ok(whole.eval_count > 0 && whole.total_duration > 0);
    let text = '', last;
    for await (const part of await ollama.chat({ model, messages, options, stream: true, think: false })) {
        text += part.message.content;
        last = part;
    }
    assert.equal(text, answer);
    assert.deepEqual([last.done, last.done_reason], [true, 'stop']);
});

test('ollama: generate', async () => {
    const r = await ollama.generate({ model, prompt: question, options, think: false });
    assert.equal(r.response, answer);
});

test('ollama: tools there and back', async () => {
    const r = await ollama.chat({ model, messages: weather, tools: functions, options, think: false });
    const [call] = r.message.tool_calls;
    assert.deepEqual([call.function.name, call.function.arguments], ['get_weather', { city: 'Paris' }]);
    const said = await ollama.chat({
        model, tools: functions, options,
        messages: [...weather, r.message, { role: 'tool', tool_name: 'get_weather', content: result }],
    });
    assert.match(said.message.content, /21/);
});

test('ollama: models', async () => {
    const { models } = await ollama.list();
    assert.deepEqual(models.map((m) => m.name), ['demo-23m:latest']);
    const shown = await ollama.show({ model: models[0].name });
    assert.ok(shown.capabilities.includes('tools'));
    assert.equal((await ollama.ps()).models[0].name, models[0].name);
    await assert.rejects(ollama.chat({ model: 'llama9', messages }), (e) => e.name === 'ResponseError' && e.status_code === 404);
});

test('ollama: embeddings', async () => {
    const { embeddings } = await ollama.embed({ model, input: ['a text', 'another'] });
    assert.equal(embeddings.length, 2);
    assert.ok(Math.abs(Math.hypot(...embeddings[0]) - 1) < 1e-5);
});
