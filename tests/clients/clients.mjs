// The clients that users have, against the bundled model. usage: node clients.mjs http://127.0.0.1:PORT
import assert from 'node:assert/strict';
import test from 'node:test';

import { createOpenAICompatible } from '@ai-sdk/openai-compatible';
import { HumanMessage } from '@langchain/core/messages';
import { ChatOpenAI } from '@langchain/openai';
import { generateText, streamText } from 'ai';
import OpenAI from 'openai';
import WebSocket from 'ws';

const base = process.argv[2];
const question = 'What is 12 + 30?';
const answer = '12 + 30 = 42';
const messages = [{ role: 'user', content: question }];

const openai = new OpenAI({ baseURL: `${base}/v1`, apiKey: 'any' });

test('openai: models', async () => {
    const list = await openai.models.list();
    assert.deepEqual(list.data.map((m) => m.id), ['demo-23m']);
    assert.equal((await openai.models.retrieve('demo-23m')).id, 'demo-23m');
});

test('openai: chat, whole', async () => {
    const r = await openai.chat.completions.create({ model: 'demo-23m', messages, temperature: 0 });
    assert.equal(r.choices[0].message.content, answer);
    assert.equal(r.choices[0].finish_reason, 'stop');
    assert.equal(r.usage.total_tokens, r.usage.prompt_tokens + r.usage.completion_tokens);
});

test('openai: chat, streamed', async () => {
    const stream = await openai.chat.completions.create({
        model: 'demo-23m', messages, temperature: 0, stream: true, stream_options: { include_usage: true },
    });
    let text = '', usage;
    for await (const chunk of stream) {
        text += chunk.choices[0]?.delta?.content ?? '';
        usage = chunk.usage ?? usage;
    }
    assert.equal(text, answer);
    assert.ok(usage.completion_tokens > 0);
});

test('openai: completions with logprobs of the prompt', async () => {
    const r = await openai.completions.create({
        model: 'demo-23m', prompt: question, max_tokens: 0, echo: true, logprobs: 1,
    });
    assert.equal(r.choices[0].text, question);
    assert.equal(r.choices[0].logprobs.token_logprobs.length, r.usage.prompt_tokens);
    assert.equal(r.choices[0].logprobs.token_logprobs[0], null);
});

test('openai: errors become its own classes, and are not tried again', async () => {
    await assert.rejects(openai.chat.completions.create({ model: 'gpt-9', messages }), (e) => {
        assert.ok(e instanceof OpenAI.NotFoundError);
        assert.equal(e.code, 'model_not_found');
        assert.match(e.requestID, /^req_/);
        return true;
    });
    await assert.rejects(openai.chat.completions.create({ model: 'demo-23m', messages, temperature: 3 }), (e) => {
        assert.ok(e instanceof OpenAI.BadRequestError);
        assert.equal(e.param, 'temperature');
        return true;
    });
});

test('openai: an aborted stream ends', async () => {
    const stream = await openai.completions.create({
        model: 'demo-23m', prompt: 'a', max_tokens: 900, stream: true, ignore_eos: true,
    });
    for await (const chunk of stream) {
        assert.ok(chunk.id);
        break;
    }
    stream.controller.abort();
    for (let i = 0; i < 100; ++i) {
        const p = await (await fetch(`${base}/performance`)).json();
        if (p.models[0].requests.under_way === 0) return;
        await new Promise((done) => setTimeout(done, 20));
    }
    assert.fail('the sequence is still running');
});

const sdk = createOpenAICompatible({ name: 'smelt', baseURL: `${base}/v1`, apiKey: 'any' });

test('ai sdk: whole, with reasoning apart', async () => {
    const r = await generateText({ model: sdk('demo-23m'), prompt: question, temperature: 0 });
    assert.equal(r.text, answer);
    assert.equal(r.reasoningText, '12 + 30 equals 42.');
    assert.equal(r.finishReason, 'stop');
});

test('ai sdk: streamed', async () => {
    let text = '';
    for await (const piece of streamText({ model: sdk('demo-23m'), prompt: question, temperature: 0 }).textStream) text += piece;
    assert.equal(text, answer);
});

const chain = new ChatOpenAI({
    model: 'demo-23m', temperature: 0, apiKey: 'any', configuration: { baseURL: `${base}/v1` }, useResponsesApi: false,
});

test('langchain: whole', async () => {
    const r = await chain.invoke([new HumanMessage(question)]);
    assert.equal(r.content, answer);
    assert.ok(r.usage_metadata.output_tokens > 0);
});

test('langchain: streamed', async () => {
    let text = '';
    for await (const piece of await chain.stream([new HumanMessage(question)])) text += piece.content;
    assert.equal(text, answer);
});

test('ws: requests, cancel and ping on one socket', async () => {
    const socket = new WebSocket(base.replace('http', 'ws') + '/ws/stream');
    await new Promise((open, failed) => socket.on('open', open).on('error', failed));
    const events = [];
    let arrived;
    socket.on('message', (data) => {
        events.push(JSON.parse(data));
        arrived?.();
    });
    const until = async (condition) => {
        while (!events.some(condition)) await new Promise((done) => (arrived = done));
    };
    socket.send(JSON.stringify({ id: 'a', prompt: question, temperature: 0 }));
    socket.send(JSON.stringify({ id: 'b', prompt: 'a', raw: true, max_tokens: 900, ignore_eos: true }));
    await until((e) => e.id === 'b' && e.type === 'token');
    socket.send(JSON.stringify({ id: 'b', type: 'cancel' }));
    await until((e) => e.id === 'b' && e.type === 'end');
    await until((e) => e.id === 'a' && e.type === 'end');
    assert.equal(events.filter((e) => e.id === 'a' && e.type === 'token').map((e) => e.text).join(''), answer);
    const pong = new Promise((done) => socket.on('pong', done));
    socket.ping();
    await pong;
    socket.close();
    await new Promise((closed) => socket.on('close', closed));
});
