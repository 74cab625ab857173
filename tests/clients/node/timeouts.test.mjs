// OpenAI's SDK for JavaScript with a time-out at a slow upstream.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import OpenAI from 'openai';
import { KEYS, Script, URL_V1, chat } from './upstream.mjs';

const messages = [{ role: 'user', content: 'hi' }];

// The time-out of the client, and the part of it after which the upstream answers.
const TIMEOUT_MS = 2000;
const [HALF, LATE, TOO_LATE] = [0.5, 0.9, 1.5];
const seconds = (part) => (part * TIMEOUT_MS) / 1000;

async function ask(model, options) {
  const client = new OpenAI({ baseURL: URL_V1, apiKey: KEYS.ann, timeout: TIMEOUT_MS, ...options });
  const answer = await client.chat.completions.create({ model, messages });
  return answer.choices[0].message.content;
}

for (const part of [HALF, LATE, TOO_LATE]) {
  test(`a client that retries has its answer of one call, after ${part}`, async () => {
    const script = new Script();
    await script.answers({ after: seconds(part), ...chat('fine') });
    assert.equal(await ask(script.model), 'fine');
    assert.equal((await script.calls()).length, 1);
  });
}

for (const part of [HALF, LATE]) {
  test(`a client that does not retry has its answer in time, after ${part}`, async () => {
    const script = new Script();
    await script.answers({ after: seconds(part), ...chat('fine') });
    assert.equal(await ask(script.model, { maxRetries: 0 }), 'fine');
  });
}

test('a client without retries times out', async () => {
  const script = new Script();
  await script.answers({ hold: true });
  await assert.rejects(ask(script.model, { maxRetries: 0 }), OpenAI.APIConnectionTimeoutError);
  assert.equal(await script.left(1), 1);
});

test('retried equal calls keep separate answers', async () => {
  const script = new Script();
  const words = ['one', 'two', 'three', 'four', 'five'];
  await script.answers(...words.map((word) => ({ after: seconds(TOO_LATE), ...chat(word) })));
  const texts = await Promise.all(words.map(() => ask(script.model)));
  assert.deepEqual(texts.sort(), words.sort());
  assert.equal((await script.calls()).length, words.length);
});
