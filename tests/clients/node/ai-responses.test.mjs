// Vercel's AI SDK by its provider for OpenAI, which calls /v1/responses, over a chat-only upstream.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { createOpenAI } from '@ai-sdk/openai';
import { generateText, jsonSchema, stepCountIs, streamText, tool } from 'ai';
import { CALL, KEYS, Script, URL_V1, callsTool, chat, chunk, says } from './upstream.mjs';

const causeway = createOpenAI({ baseURL: URL_V1, apiKey: KEYS.ann });
const PIXEL = Buffer.from('89504e470d0a1a0a', 'hex');
const tools = {
  weather: tool({
    inputSchema: jsonSchema({ type: 'object', properties: { city: { type: 'string' } } }),
    execute: ({ city }) => `21 degrees in ${city}`,
  }),
};
const roles = (call) => call.body.messages.map((message) => message.role);

test('an image reaches the chat', async () => {
  const script = new Script();
  await script.answers(chat('A pixel.'));
  const content = [
    { type: 'text', text: 'What is this?' },
    { type: 'image', image: PIXEL, mediaType: 'image/png' },
  ];
  const messages = [{ role: 'user', content }];
  const { text } = await generateText({ model: causeway(script.model), messages });
  assert.equal(text, 'A pixel.');
  const [{ body }] = await script.calls();
  const [said, image] = body.messages[0].content;
  assert.deepEqual(said, { type: 'text', text: 'What is this?' });
  assert.equal(image.image_url.url, `data:image/png;base64,${PIXEL.toString('base64')}`);
});

test('a text streams, and its reasoning before it', async () => {
  const script = new Script();
  await script.answers({ events: [chunk({ reasoning_content: 'hm' }), ...says('Hel', 'lo')] });
  const stream = streamText({ model: causeway(script.model), prompt: 'hi' });
  const parts = [];
  for await (const part of stream.fullStream) parts.push(part);
  const text = (type) => parts.filter((part) => part.type === type).map((part) => part.text).join('');
  assert.deepEqual([text('reasoning-delta'), text('text-delta')], ['hm', 'Hello']);
  assert.equal(parts.find((part) => part.type === 'error'), undefined);
  assert.equal(await stream.finishReason, 'stop');
});

test('a tool call refers to the previous response', async () => {
  const script = new Script();
  await script.answers({ events: callsTool() }, { events: says('Sunny.') }, chat('Still sunny.'));
  const model = causeway(script.model);
  const stream = streamText({ model, prompt: 'hi', tools, stopWhen: stepCountIs(3) });
  assert.equal(await stream.text, 'Sunny.');
  const { messages } = await stream.response;
  const before = [{ role: 'user', content: 'hi' }, ...messages];
  const next = [...before, { role: 'user', content: 'And now?' }];
  assert.equal((await generateText({ model, messages: next, tools })).text, 'Still sunny.');
  const calls = await script.calls();
  assert.deepEqual(roles(calls[1]), ['user', 'assistant', 'tool']);
  assert.deepEqual(calls[1].body.messages[1].tool_calls[0].id, CALL.id);
  assert.deepEqual(roles(calls[2]), ['user', 'assistant', 'tool', 'assistant', 'user']);
  assert.equal(calls[2].body.messages[3].content, 'Sunny.');
});

test('a response is continued by its id', async () => {
  const script = new Script();
  await script.answers(chat('Hello Ann.'), chat('Ann.'));
  const model = causeway(script.model);
  const first = await generateText({ model, prompt: 'I am Ann.' });
  const previousResponseId = first.providerMetadata.openai.responseId;
  const providerOptions = { openai: { previousResponseId } };
  const second = await generateText({ model, prompt: 'Who am I?', providerOptions });
  assert.equal(second.text, 'Ann.');
  const contents = (await script.calls())[1].body.messages.map((message) => message.content);
  assert.deepEqual(contents, ['I am Ann.', 'Hello Ann.', 'Who am I?']);
});
