// Answers of a form, asked for as people's programs do. usage: node structured.mjs http://127.0.0.1:PORT
import assert from 'node:assert/strict';
import test from 'node:test';

import Anthropic from '@anthropic-ai/sdk';
import { createOpenAICompatible } from '@ai-sdk/openai-compatible';
import { ChatOpenAI } from '@langchain/openai';
import { generateObject, generateText, Output, streamObject, tool } from 'ai';
import { Ollama } from 'ollama';
import OpenAI from 'openai';
import { zodResponseFormat, zodTextFormat } from 'openai/helpers/zod';
import { z } from 'zod';

const base = process.argv[2];
const model = 'demo-23m';
const question = 'What is 12 + 30?';
const messages = [{ role: 'user', content: question }];
const sum = z.object({ a: z.number().int(), sum: z.number().int().min(40), unit: z.enum(['none', 'apples']) });
const is_sum = (value) => assert.ok(sum.safeParse(value).success, JSON.stringify(value));

const openai = new OpenAI({ baseURL: `${base}/v1`, apiKey: 'any' });

test('openai: a Zod schema for chat completions and for responses', async () => {
    const chat = await openai.chat.completions.parse({
        model, messages, temperature: 0, max_tokens: 300, response_format: zodResponseFormat(sum, 'sum'),
    });
    is_sum(chat.choices[0].message.parsed);
    const r = await openai.responses.parse({
        model, input: question, temperature: 0, max_output_tokens: 300, text: { format: zodTextFormat(sum, 'sum') },
    });
    is_sum(r.output_parsed);
});

test('openai: a forced call', async () => {
    const r = await openai.chat.completions.create({
        model, messages, temperature: 0, tool_choice: { type: 'function', function: { name: 'tell' } },
        tools: [{ type: 'function', function: { name: 'tell', parameters: z.toJSONSchema(sum) } }],
    });
    is_sum(JSON.parse(r.choices[0].message.tool_calls[0].function.arguments));
});

test('openai: what cannot be enforced is refused', async () => {
    const schema = { type: 'array', uniqueItems: true, items: {} };
    await assert.rejects(openai.chat.completions.create({
        model, messages, response_format: { type: 'json_schema', json_schema: { name: 'x', strict: true, schema } },
    }), (e) => e instanceof OpenAI.BadRequestError && e.code === 'invalid_schema');
});

const sdk = createOpenAICompatible({ name: 'smelt', baseURL: `${base}/v1`, apiKey: 'any', supportsStructuredOutputs: true });

test('ai sdk: objects, whole and streamed', async () => {
    const request = { model: sdk(model), schema: sum, prompt: question, temperature: 0, maxOutputTokens: 300 };
    is_sum((await generateObject(request)).object);
    const { partialObjectStream, object } = streamObject(request);
    for await (const part of partialObjectStream) assert.equal(typeof part, 'object');
    is_sum(await object);
    is_sum((await generateText({ model: sdk(model), prompt: question, temperature: 0, output: Output.object({ schema: sum }) })).output);
});

test('ai sdk: a required call', async () => {
    const r = await generateText({
        model: sdk(model), prompt: question, temperature: 0, toolChoice: 'required',
        tools: { tell: tool({ description: 'Tells a sum', inputSchema: sum }) },
    });
    is_sum(r.toolCalls[0].input);
});

test('langchain: structured output, by schema and by call', async () => {
    const chain = new ChatOpenAI({ model, temperature: 0, maxTokens: 300, apiKey: 'any', configuration: { baseURL: `${base}/v1` }, useResponsesApi: false });
    for (const method of ['jsonSchema', 'functionCalling']) {
        is_sum(await chain.withStructuredOutput(sum, { method, name: 'sum' }).invoke(question));
    }
});

test('anthropic: a forced tool', async () => {
    const anthropic = new Anthropic({ baseURL: base, apiKey: 'any' });
    const m = await anthropic.messages.create({
        model, max_tokens: 300, temperature: 0, messages, tool_choice: { type: 'tool', name: 'tell', disable_parallel_tool_use: true },
        tools: [{ name: 'tell', input_schema: z.toJSONSchema(sum) }],
    });
    assert.equal(m.stop_reason, 'tool_use');
    is_sum(m.content.at(-1).input);
});

test('ollama: a schema as format', async () => {
    const ollama = new Ollama({ host: base });
    const r = await ollama.chat({ model, messages, options: { temperature: 0, num_predict: 300 }, format: z.toJSONSchema(sum) });
    is_sum(JSON.parse(r.message.content));
});
