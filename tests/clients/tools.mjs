// Tools, structured answers, the Responses API and embeddings through OpenAI's client, the AI SDK and LangChain.
// usage: node tools.mjs http://127.0.0.1:PORT
import assert from 'node:assert/strict';
import test from 'node:test';

import { createOpenAICompatible } from '@ai-sdk/openai-compatible';
import { HumanMessage, ToolMessage } from '@langchain/core/messages';
import { tool as chainTool } from '@langchain/core/tools';
import { ChatOpenAI, OpenAIEmbeddings } from '@langchain/openai';
import { embedMany, generateText, stepCountIs, streamText, tool } from 'ai';
import OpenAI from 'openai';
import { zodFunction } from 'openai/helpers/zod';
import { z } from 'zod';

const base = process.argv[2];
const model = 'demo-23m';
const question = 'What is 12 + 30?';
const answer = '12 + 30 = 42';
const weather = 'What is the weather in Paris?';
const description = 'Current weather of a city';
const city = z.object({ city: z.string() });
const result = { temperature: 21, condition: 'sunny' };

const openai = new OpenAI({ baseURL: `${base}/v1`, apiKey: 'any' });
const messages = [{ role: 'user', content: weather }];

test('openai: its tool runner, whole and streamed', async () => {
    for (const stream of [false, true]) {
        const asked = [];
        const runner = openai.chat.completions.runTools({
            model, messages, stream, temperature: 0,
            tools: [{
                type: 'function',
                function: {
                    name: 'get_weather', description, parse: JSON.parse,
                    parameters: { type: 'object', properties: { city: { type: 'string' } }, required: ['city'] },
                    function: ({ city }) => (asked.push(city), result),
                },
            }],
        });
        assert.match(await runner.finalContent(), /21/);
        assert.deepEqual(asked, ['Paris']);
    }
});

test('openai: a tool from Zod, its arguments parsed', async () => {
    const r = await openai.chat.completions.parse({
        model, messages, temperature: 0,
        tools: [zodFunction({ name: 'get_weather', description, parameters: city })],
    });
    const [call] = r.choices[0].message.tool_calls;
    assert.deepEqual(call.function.parsed_arguments, { city: 'Paris' });
    assert.equal(r.choices[0].finish_reason, 'tool_calls');
});

test('openai: responses, whole and streamed', async () => {
    const r = await openai.responses.create({ model, input: question, temperature: 0 });
    assert.equal(r.output_text, answer);
    assert.equal(r.output[0].content[0].text, '12 + 30 equals 42.');
    const stream = openai.responses.stream({ model, input: question, temperature: 0 });
    let text = '';
    stream.on('response.output_text.delta', (e) => (text += e.delta));
    assert.equal((await stream.finalResponse()).output_text, answer);
    assert.equal(text, answer);
});

test('openai: responses with tools', async () => {
    const tools = [{
        type: 'function', name: 'get_weather', description, strict: false,
        parameters: { type: 'object', properties: { city: { type: 'string' } }, required: ['city'] },
    }];
    const call = await openai.responses.stream({ model, input: weather, tools, temperature: 0 }).finalResponse();
    const item = call.output.at(-1);
    assert.deepEqual([item.type, item.name, JSON.parse(item.arguments)], ['function_call', 'get_weather', { city: 'Paris' }]);
    const r = await openai.responses.create({
        model, tools, temperature: 0,
        input: [{ role: 'user', content: weather }, ...call.output,
            { type: 'function_call_output', call_id: item.call_id, output: JSON.stringify(result) }],
    });
    assert.match(r.output_text, /21/);
    await assert.rejects(openai.responses.create({ model, input: question, previous_response_id: 'resp_1' }),
        (e) => e instanceof OpenAI.NotFoundError && e.param === 'previous_response_id');
});

test('openai: embeddings, which it asks for in base64', async () => {
    const { data } = await openai.embeddings.create({ model, input: ['a text', 'another'] });
    const floats = await openai.embeddings.create({ model, input: 'a text', encoding_format: 'float' });
    assert.equal(data.length, 2);
    assert.deepEqual(Array.from(data[0].embedding).map(Math.fround), floats.data[0].embedding.map(Math.fround));
    assert.ok(Math.abs(Math.hypot(...data[1].embedding) - 1) < 1e-5);
});

const sdk = createOpenAICompatible({ name: 'smelt', baseURL: `${base}/v1`, apiKey: 'any', supportsStructuredOutputs: true });

test('ai sdk: tools in several steps, whole and streamed', async () => {
    const request = (asked) => ({
        model: sdk(model), prompt: weather, temperature: 0, stopWhen: stepCountIs(3),
        tools: { get_weather: tool({ description, inputSchema: city, execute: async ({ city }) => (asked.push(city), result) }) },
    });
    let asked = [];
    const r = await generateText(request(asked));
    assert.deepEqual(asked, ['Paris']);
    assert.match(r.text, /21/);
    assert.equal(r.steps.length, 2);
    asked = [];
    let text = '';
    for await (const piece of streamText(request(asked)).textStream) text += piece;
    assert.deepEqual(asked, ['Paris']);
    assert.match(text, /21/);
});

test('ai sdk: embeddings', async () => {
    const { embeddings } = await embedMany({ model: sdk.textEmbeddingModel(model), values: ['a text', 'another'] });
    assert.equal(embeddings.length, 2);
    assert.equal(embeddings[0].length, 512);
});

const chain = new ChatOpenAI({ model, temperature: 0, apiKey: 'any', configuration: { baseURL: `${base}/v1` }, useResponsesApi: false });
const get_weather = chainTool(async ({ city }) => JSON.stringify({ ...result, city }), { name: 'get_weather', description, schema: city });

test('langchain: tools there and back', async () => {
    const bound = chain.bindTools([get_weather]);
    const call = await bound.invoke([new HumanMessage(weather)]);
    assert.deepEqual(call.tool_calls.map(({ name, args }) => [name, args]), [['get_weather', { city: 'Paris' }]]);
    const said = await get_weather.invoke(call.tool_calls[0]);
    assert.ok(said instanceof ToolMessage);
    const r = await bound.invoke([new HumanMessage(weather), call, said]);
    assert.match(r.content, /21/);
});

test('langchain: streamed calls', async () => {
    let all;
    for await (const piece of await chain.bindTools([get_weather]).stream([new HumanMessage(weather)])) {
        all = all === undefined ? piece : all.concat(piece);
    }
    assert.deepEqual(all.tool_calls.map(({ name, args }) => [name, args]), [['get_weather', { city: 'Paris' }]]);
});

test('langchain: embeddings', async () => {
    const embedder = new OpenAIEmbeddings({ model, apiKey: 'any', configuration: { baseURL: `${base}/v1` } });
    assert.equal((await embedder.embedQuery('a text')).length, 512);
});
