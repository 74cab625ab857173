// Vercel's AI SDK by its provider for OpenAI-compatible servers.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { createOpenAICompatible } from '@ai-sdk/openai-compatible';
import { APICallError, embedMany, generateText, jsonSchema, streamText, tool } from 'ai';
import { CALL, KEYS, Script, URL_V1, callsTool, chat, refusal, says } from './upstream.mjs';

function connect(tenant = 'ann', options = {}) {
  const apiKey = KEYS[tenant] ?? tenant;
  const asked = { name: 'causeway', baseURL: URL_V1, apiKey, includeUsage: true };
  return createOpenAICompatible({ ...asked, ...options });
}

const causeway = connect();
const prompt = 'hi';
const tools = {
  weather: tool({
    inputSchema: jsonSchema({ type: 'object', properties: { city: { type: 'string' } } }),
  }),
};

/** Reads a stream; returns its parts and its error. */
async function parts(stream) {
  const parts = [];
  for await (const part of stream.fullStream) parts.push(part);
  return { parts, error: parts.find((part) => part.type === 'error')?.error };
}

test('a text is generated', async () => {
  const { text, usage, finishReason } = await generateText({ model: causeway('simulated'), prompt });
  assert.match(text, /^Simulated answer to: hi/);
  assert.equal(finishReason, 'stop');
  assert.ok(usage.inputTokens > 0 && usage.outputTokens > 1);
});

test('a text streams, and its usage is known', async () => {
  const stream = streamText({ model: causeway('simulated'), prompt });
  let text = '';
  for await (const piece of stream.textStream) text += piece;
  assert.match(text, /^Simulated answer to: hi/);
  assert.ok((await stream.usage).outputTokens > 1);
  assert.equal(await stream.finishReason, 'stop');
});

test('tool calls pass, complete and streamed', async () => {
  const script = new Script();
  await script.answers(chat(null, { tool_calls: [CALL] }), { events: callsTool() });
  const model = causeway(script.model);
  const whole = await generateText({ model, prompt, tools });
  const stream = streamText({ model, prompt, tools });
  for (const [call] of [whole.toolCalls, await stream.toolCalls]) {
    assert.deepEqual([call.toolName, call.input], ['weather', { city: 'Ulm' }]);
  }
  const sent = (await script.calls()).map((call) => call.body.tools[0].function.name);
  assert.deepEqual(sent, ['weather', 'weather']);
});

test('embeddings keep the order of the inputs', async () => {
  const model = causeway.embeddingModel('simulated');
  const { embeddings } = await embedMany({ model, values: ['a', 'b'] });
  assert.equal(embeddings.length, 2);
  assert.notDeepEqual(embeddings[0], embeddings[1]);
});

test('a wrong key and a bad request raise their errors', async () => {
  const told = (status, words) => (error) => {
    assert.ok(APICallError.isInstance(error));
    assert.equal(error.statusCode, status);
    assert.equal(error.isRetryable, false);
    assert.match(error.message, words);
    return true;
  };
  const wrong = generateText({ model: connect('wrong')('simulated'), prompt });
  await assert.rejects(wrong, told(401, /this API key is unknown/));
  const script = new Script();
  await script.answers(refusal(400, 'context_length_exceeded'));
  const bad = generateText({ model: causeway(script.model), prompt });
  await assert.rejects(bad, told(400, /refused with 400/));
});

/** Fills Dan's queue: one job runs, and one waits. */
async function fill(script) {
  await script.answers({ hold: true, ...chat('one') }, chat('more'));
  const headers = { authorization: `Bearer ${KEYS.dan}`, prefer: 'respond-async' };
  headers['content-type'] = 'application/json';
  const body = JSON.stringify({ model: script.model, messages: [] });
  for (let count = 0; count < 2; count++) {
    const answer = await fetch(`${URL_V1}/chat/completions`, { method: 'POST', headers, body });
    assert.equal(answer.status, 202);
    await script.calls(1);
  }
}

test('a full queue is a retryable error', async () => {
  const script = new Script();
  await fill(script);
  const asked = generateText({ model: connect('dan')(script.model), prompt, maxRetries: 0 });
  await assert.rejects(asked, (error) => {
    assert.ok(APICallError.isInstance(error));
    assert.deepEqual([error.statusCode, error.isRetryable], [429, true]);
    return true;
  });
  await script.release();
  await script.calls(2);
});

test('a call refused by a full queue is retried', async () => {
  const script = new Script();
  let tries = 0;
  const counted = async (url, init) => {
    // The queue gets room when the SDK retries for the first time.
    if (++tries === 2) await script.release();
    return fetch(url, init);
  };
  await fill(script);
  const model = connect('dan', { fetch: counted })(script.model);
  assert.equal((await generateText({ model, prompt })).text, 'more');
  assert.ok(tries >= 2);
});

for (const [name, ending] of [['is cut', { cut: true }], ['ends without an end', {}]]) {
  test(`a stream that ${name} has an error in it`, async () => {
    const script = new Script();
    await script.answers({ events: [...says('one').slice(0, -2), 'hold'], ...ending });
    const onError = () => {};
    const reading = parts(streamText({ model: causeway(script.model), prompt, onError }));
    await script.calls(1);
    await script.release();
    const { parts: read, error } = await reading;
    assert.equal(read.find((part) => part.type === 'text-delta').text, 'one');
    assert.match(JSON.stringify(error) + error, /broke off/);
  });
}

test('leaving a stream ends the call', async () => {
  const script = new Script();
  await script.answers({ events: [...says('one').slice(0, -2), 'hold'] });
  const giveUp = new AbortController();
  const model = causeway(script.model);
  const stream = streamText({ model, prompt, abortSignal: giveUp.signal });
  for await (const piece of stream.textStream) {
    assert.equal(piece, 'one');
    giveUp.abort();
  }
  assert.equal(await script.left(1), 1);
});
