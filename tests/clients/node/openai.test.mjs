// OpenAI's SDK for JavaScript: its results, its errors, its retries.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import OpenAI from 'openai';
import {
  CALL,
  KEYS,
  Script,
  URL_V1,
  callsTool,
  chat,
  chunk,
  refusal,
  says,
} from './upstream.mjs';

const messages = [{ role: 'user', content: 'hi' }];
const tools = [{ type: 'function', function: { name: 'weather', parameters: { type: 'object' } } }];

/** Returns a client, and the list of its requests. */
function connect(tenant = 'ann', options = {}) {
  const requests = [];
  const counted = (url, init) => {
    requests.push(init);
    options.seen?.(requests.length);
    return fetch(url, init);
  };
  const apiKey = KEYS[tenant] ?? tenant;
  const client = new OpenAI({ baseURL: URL_V1, apiKey, ...options, fetch: counted });
  return { client, requests };
}

const { client } = connect();
const ask = (model, fields, options) =>
  client.chat.completions.create({ model, messages, ...fields }, options);
const job = (id) => client.get(`/jobs/${id}?wait=20`);

async function text(stream) {
  let said = '';
  for await (const one of stream) said += one.choices[0]?.delta.content ?? '';
  return said;
}

test('a chat is answered', async () => {
  const answer = await ask('simulated');
  assert.match(answer.choices[0].message.content, /^Simulated answer to: hi/);
  assert.ok(answer.usage.total_tokens > 0);
  assert.match(answer._request_id, /^req_/);
});

test('a chat streams and its usage comes last', async () => {
  const chunks = [];
  const options = { stream: true, stream_options: { include_usage: true } };
  for await (const one of await ask('simulated', options)) chunks.push(one);
  assert.equal(chunks.at(-2).choices[0].finish_reason, 'stop');
  assert.deepEqual(chunks.at(-1).choices, []);
  assert.ok(chunks.at(-1).usage.completion_tokens > 1);
});

test('the stream helper assembles text and tool calls', async () => {
  const spoken = client.chat.completions.stream({ model: 'simulated', messages });
  assert.match(await spoken.finalContent(), /^Simulated answer to: hi/);
  const script = new Script();
  await script.answers({ events: callsTool() });
  const called = client.chat.completions.stream({ model: script.model, messages, tools });
  const whole = await called.finalChatCompletion();
  assert.equal(whole.choices[0].message.tool_calls[0].function.arguments, '{"city":"Ulm"}');
});

test('tool calls pass in both directions', async () => {
  const script = new Script();
  await script.answers(chat(null, { tool_calls: [CALL] }), chat('Sunny.'));
  const asked = (await ask(script.model, { tools })).choices[0].message;
  assert.deepEqual(asked.tool_calls, [CALL]);
  const result = { role: 'tool', tool_call_id: asked.tool_calls[0].id, content: '21 degrees' };
  const answer = await ask(script.model, { messages: [...messages, asked, result], tools });
  assert.equal(answer.choices[0].message.content, 'Sunny.');
  const [first, second] = await script.calls();
  assert.deepEqual(first.body.tools, tools);
  assert.deepEqual(second.body.messages.slice(1), [asked, result]);
});

test('embeddings come as floats and as base64', async () => {
  const script = new Script();
  const packed = Buffer.from(new Float32Array([0.5, -1, 2]).buffer).toString('base64');
  const answer = (embedding) => ({
    json: {
      object: 'list',
      data: [{ object: 'embedding', index: 0, embedding }],
      model: 'scripted',
      usage: { prompt_tokens: 1, total_tokens: 1 },
    },
  });
  await script.answers(answer(packed), answer([0.5, -1, 2]));
  const embed = (fields) => client.embeddings.create({ model: script.model, input: 'hi', ...fields });
  // By default the SDK requests base64 and decodes it.
  assert.deepEqual([...(await embed()).data[0].embedding], [0.5, -1, 2]);
  assert.deepEqual((await embed({ encoding_format: 'float' })).data[0].embedding, [0.5, -1, 2]);
  const formats = (await script.calls()).map((call) => call.body.encoding_format);
  assert.deepEqual(formats, ['base64', 'float']);
});

test('completions are complete or streamed', async () => {
  const asked = { model: 'simulated', prompt: 'hi' };
  const whole = await client.completions.create(asked);
  let streamed = '';
  for await (const one of await client.completions.create({ ...asked, stream: true })) {
    streamed += one.choices[0].text;
  }
  assert.equal(streamed, whole.choices[0].text);
});

test('models are those of all lanes', async () => {
  const ids = [];
  for await (const model of client.models.list()) ids.push(model.id);
  assert.ok(ids.includes('simulated') && ids.includes('narrow-node'), String(ids));
});

test('unknown fields reach the upstream', async () => {
  const script = new Script();
  await script.answers(chat('hi'));
  await ask(script.model, { ignore_eos: true });
  const [{ body }] = await script.calls();
  assert.deepEqual(body, { model: script.model, messages, ignore_eos: true });
});

test('an answer names its request, its job and its class', async () => {
  const asked = ask('simulated', { service_tier: 'flex' });
  const { response, request_id } = await asked.withResponse();
  assert.match(request_id, /^req_/);
  assert.equal((await job(response.headers.get('x-causeway-job-id'))).class, 'batch');
});

test('a rate-limited tenant sees its remaining budget', async () => {
  const bob = connect('bob').client;
  const { response } = await bob.chat.completions
    .create({ model: 'simulated', messages })
    .withResponse();
  assert.equal(response.headers.get('x-ratelimit-limit-requests'), '600');
  assert.ok(Number(response.headers.get('x-ratelimit-remaining-requests')) > 0);
  assert.equal(response.headers.get('x-ratelimit-limit-tokens'), '60000');
  assert.match(response.headers.get('x-ratelimit-reset-tokens'), /^[0-9.]+s$/);
});

test('a wrong key, a wrong route and a wrong call raise their errors', async () => {
  const wrong = connect('wrong').client.models.list();
  await assert.rejects(wrong, OpenAI.AuthenticationError);
  await assert.rejects(client.fineTuning.jobs.list(), (error) => {
    assert.ok(error instanceof OpenAI.NotFoundError);
    assert.equal(error.code, 'unknown_route');
    assert.match(error.requestID, /^req_/);
    return true;
  });
  const headers = { 'x-causeway-class': 'fast' };
  await assert.rejects(ask('simulated', {}, { headers }), OpenAI.BadRequestError);
});

for (const [status, code, kind] of [
  [400, 'context_length_exceeded', OpenAI.BadRequestError],
  [422, null, OpenAI.UnprocessableEntityError],
]) {
  for (const stream of [false, true]) {
    test(`a refusal with ${status} is raised as it was, stream: ${stream}`, async () => {
      const script = new Script();
      await script.answers(refusal(status, code));
      await assert.rejects(ask(script.model, { stream }), (error) => {
        assert.ok(error instanceof kind);
        assert.deepEqual([error.code, error.param], [code, 'messages']);
        return true;
      });
      assert.equal((await script.calls()).length, 1);
    });
  }
}

test('a permanent failure is not retried', async () => {
  const script = new Script();
  await script.answers(refusal(500, null, 'server_error'));
  const { client, requests } = connect();
  const asked = client.chat.completions.create({ model: script.model, messages });
  await assert.rejects(asked, OpenAI.InternalServerError);
  assert.equal((await script.calls()).length, 5);
  assert.equal(requests.length, 1);
});

test('a fault of the upstream delays the answer', async () => {
  const script = new Script();
  await script.answers(refusal(404, 'model_not_found'), chat('at last'));
  const { client, requests } = connect();
  const { choices } = await client.chat.completions.create({ model: script.model, messages });
  assert.equal(choices[0].message.content, 'at last');
  assert.deepEqual([(await script.calls()).length, requests.length], [2, 1]);
});

/** Fills Cleo's queue: one job runs, and one waits. */
async function fill(client, script) {
  await script.answers({ hold: true, ...chat('one') }, chat('more'));
  const headers = { prefer: 'respond-async' };
  for (let count = 0; count < 2; count++) {
    await client.chat.completions.create({ model: script.model, messages }, { headers });
    await script.calls(1);
  }
}

test('a full queue is a rate limit error', async () => {
  const script = new Script();
  const { client, requests } = connect('cleo', { maxRetries: 0 });
  await fill(client, script);
  const asked = client.chat.completions.create({ model: script.model, messages });
  await assert.rejects(asked, (error) => {
    assert.ok(error instanceof OpenAI.RateLimitError);
    assert.equal(error.code, 'queue_full');
    return true;
  });
  assert.equal(requests.length, 3);
  await script.release();
  await script.calls(2);
});

test('a call refused by a full queue is retried', async () => {
  const script = new Script();
  // The queue gets room when the SDK retries for the first time.
  const seen = (count) => count === 4 && script.release();
  const { client } = connect('cleo', { seen });
  await fill(client, script);
  const answer = await client.chat.completions.create({ model: script.model, messages });
  assert.equal(answer.choices[0].message.content, 'more');
});

test('concurrent equal calls are separate jobs', async () => {
  const script = new Script();
  const words = ['one', 'two', 'three', 'four'];
  await script.answers(...words.map((word) => ({ hold: true, ...chat(word) })));
  const asking = words.map(() => ask(script.model));
  await script.calls(words.length);
  for (const _ of words) await script.release();
  const answers = await Promise.all(asking);
  const texts = answers.map((answer) => answer.choices[0].message.content);
  assert.deepEqual(texts.sort(), words.sort());
});

test('a retry joins the job of the first attempt', async () => {
  const script = new Script();
  await script.answers({ hold: true, ...chat('once') });
  const seen = (count) => count === 2 && script.release();
  // The SDK sends the time-out of a call, but not the time-out that its client has for every call.
  const { client, requests } = connect('ann', { seen, timeout: 1000 });
  const answer = await client.chat.completions.create({ model: script.model, messages });
  assert.equal(answer.choices[0].message.content, 'once');
  assert.ok(requests.length >= 2);
  assert.equal((await script.calls()).length, 1);
});

for (const [name, ending] of [['is cut', { cut: true }], ['ends without an end', {}]]) {
  test(`a stream that ${name} raises`, async () => {
    const script = new Script();
    await script.answers({ events: [...says('one').slice(0, -2), 'hold'], ...ending });
    let said = '';
    const reading = async () => {
      for await (const one of await ask(script.model, { stream: true })) {
        said += one.choices[0].delta.content;
        if (said) await script.release();
      }
    };
    await assert.rejects(reading, OpenAI.APIError);
    assert.equal(said, 'one');
  });
}

test('closing a stream early ends the call', async () => {
  const script = new Script();
  await script.answers({ events: [chunk({ content: 'one' }), 'hold', ...says('two')] });
  const { data, response } = await ask(script.model, { stream: true }).withResponse();
  for await (const one of data) {
    assert.equal(one.choices[0].delta.content, 'one');
    break;
  }
  assert.equal(await script.left(1), 1);
  assert.equal((await job(response.headers.get('x-causeway-job-id'))).status, 'cancelled');
});

test('a waiting stream survives until its turn', async () => {
  const script = new Script('narrow-node');
  await script.answers({ events: ['hold', ...says('first')] }, { events: says('second') });
  const first = ask(script.model, { stream: true });
  await script.calls(1);
  // The waiting call is already answered: the SDK has the stream before its first event.
  const second = await ask(script.model, { stream: true });
  assert.equal((await script.calls()).length, 1);
  await script.release();
  assert.equal(await text(await first), 'first');
  assert.equal(await text(second), 'second');
});
