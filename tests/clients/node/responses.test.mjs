// Responses by OpenAI's SDK for JavaScript: complete, streamed, in the background, resumed, cancelled.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import OpenAI from 'openai';
import { CALL, KEYS, Script, URL_V1, callsTool, chat, chunk, refusal, says } from './upstream.mjs';

const connect = (tenant) => new OpenAI({ baseURL: URL_V1, apiKey: KEYS[tenant] });
const client = connect('ann');
const ask = (model, fields) => client.responses.create({ model, input: 'hi', ...fields });

const DELTA = 'response.output_text.delta';
const ORDER = [
  'response.created',
  'response.queued',
  'response.in_progress',
  'response.output_item.added',
  'response.content_part.added',
  DELTA,
  DELTA,
  'response.output_text.done',
  'response.content_part.done',
  'response.output_item.done',
  'response.completed',
];
const tools = [
  { type: 'function', name: 'weather', parameters: { type: 'object' }, strict: false },
];

async function all(stream) {
  const events = [];
  for await (const event of stream) events.push(event);
  return events;
}

/** Reads the events of a stream up to the first of this kind, and drops the connection. */
async function upTo(stream, kind) {
  const heard = [];
  for await (const event of stream) {
    heard.push(event);
    if (event.type === kind) return heard;
  }
  assert.fail(`no ${kind} in ${kinds(heard)}`);
}

const kinds = (events) => events.map((event) => event.type);
const numbers = (events) => events.map((event) => event.sequence_number);
const count = (events) => events.map((_, number) => number);
const text = (events) =>
  events.filter((event) => event.type === DELTA).map((event) => event.delta).join('');

/** Polls a response until its status is neither queued nor in progress. */
async function ended(response) {
  while (['queued', 'in_progress'].includes(response.status)) {
    response = await client.responses.retrieve(response.id);
  }
  return response;
}

test('a response is answered', async () => {
  const script = new Script();
  await script.answers(chat('Hello'));
  const response = await ask(script.model, { instructions: 'Be brief.', metadata: { a: 'b' } });
  assert.deepEqual([response.status, response.output_text], ['completed', 'Hello']);
  assert.deepEqual(response.metadata, { a: 'b' });
  assert.equal(response.usage.total_tokens, 7);
  const [call] = await script.calls();
  assert.equal(call.path, '/v1/chat/completions');
  assert.deepEqual(call.body.messages.map((one) => one.content), ['Be brief.', 'hi']);
});

test('the events of a response are numbered in order', async () => {
  const script = new Script();
  await script.answers({ events: says('Hel', 'lo') });
  const events = await all(await ask(script.model, { stream: true }));
  assert.deepEqual(kinds(events), ORDER);
  assert.deepEqual(numbers(events), count(events));
  assert.equal(text(events), 'Hello');
});

test('the stream helper assembles text and tool calls', async () => {
  const script = new Script();
  await script.answers({ events: says('Hel', 'lo') }, { events: callsTool() });
  const asked = { model: script.model, input: 'hi', tools };
  assert.equal((await client.responses.stream(asked).finalResponse()).output_text, 'Hello');
  const [called] = (await client.responses.stream(asked).finalResponse()).output;
  assert.deepEqual([called.type, called.call_id, called.name], ['function_call', CALL.id, 'weather']);
  assert.equal(called.arguments, '{"city":"Ulm"}');
});

test('an answer is parsed by its schema', async () => {
  const script = new Script();
  await script.answers(chat('{"city":"Ulm"}'));
  const schema = { type: 'object', properties: { city: { type: 'string' } } };
  const format = { type: 'json_schema', name: 'weather', schema, strict: true };
  const parsed = await client.responses.parse({ model: script.model, input: 'hi', text: { format } });
  assert.deepEqual(parsed.output_parsed, { city: 'Ulm' });
  const [{ body }] = await script.calls();
  const asked = { name: 'weather', schema, strict: true };
  assert.deepEqual(body.response_format, { type: 'json_schema', json_schema: asked });
});

test('a background response is polled', async () => {
  const script = new Script();
  await script.answers({ hold: true, events: says('Hello') });
  const response = await ask(script.model, { background: true });
  assert.equal(response.status, 'queued');
  await script.calls(1);
  assert.equal((await client.responses.retrieve(response.id)).status, 'in_progress');
  await script.release();
  const whole = await ended(response);
  assert.deepEqual([whole.status, whole.output_text], ['completed', 'Hello']);
});

test('a dropped stream resumes once', async () => {
  const script = new Script();
  await script.answers({ events: [chunk({ content: 'Once ' }), 'hold', ...says('upon ', 'a time')] });
  const heard = await upTo(await ask(script.model, { background: true, stream: true }), DELTA);
  const [id, starting_after] = [heard[0].response.id, heard.at(-1).sequence_number];
  const resumed = await client.responses.retrieve(id, { stream: true, starting_after });
  await script.release();
  const both = [...heard, ...(await all(resumed))];
  assert.deepEqual(numbers(both), count(both));
  assert.equal(text(both), 'Once upon a time');
  // The helper reads the whole stream again, and returns the events after the number.
  const behind = client.responses.stream({ response_id: id, starting_after });
  assert.deepEqual(numbers(await all(behind)), numbers(both).slice(starting_after + 1));
  assert.equal((await behind.finalResponse()).output_text, 'Once upon a time');
  const late = await all(await client.responses.retrieve(id, { stream: true }));
  assert.deepEqual(late, both);
  assert.equal((await script.calls()).length, 1);
});

test('cancelling a response ends its call', async () => {
  const script = new Script();
  await script.answers({ events: [chunk({ content: 'one' }), 'hold'] });
  const heard = await upTo(await ask(script.model, { background: true, stream: true }), DELTA);
  const { id } = heard[0].response;
  assert.equal((await client.responses.cancel(id)).status, 'cancelled');
  assert.equal(await script.left(1), 1);
  assert.equal((await client.responses.cancel(id)).status, 'cancelled');
});

test('an unknown or foreign response is not found', async () => {
  const { id } = await ask('simulated', { background: true });
  const notFound = (error) => {
    assert.ok(error instanceof OpenAI.NotFoundError);
    assert.equal(error.code, 'response_not_found');
    return true;
  };
  await assert.rejects(client.responses.retrieve('resp_unknown'), notFound);
  await assert.rejects(connect('bob').responses.retrieve(id), notFound);
  await assert.rejects(connect('bob').responses.cancel(id), notFound);
});

test('a failed response names its reason', async () => {
  const script = new Script();
  await script.answers(refusal(400, 'context_length_exceeded'));
  const response = await ended(await ask(script.model, { background: true }));
  assert.equal(response.status, 'failed');
  const error = { code: 'invalid_prompt', message: 'refused with 400' };
  assert.deepEqual(response.error, error);
});

test('a native upstream gets the request unchanged', async () => {
  const script = new Script('native-node');
  const said = { id: 'resp_of_upstream', object: 'response', status: 'completed', output: [] };
  await script.answers({ json: said }, { json: { ...said, id: 'resp_2' } });
  const first = await ask(script.model);
  assert.notEqual(first.id, said.id);
  const second = await ask(script.model, { previous_response_id: first.id });
  assert.equal(second.previous_response_id, first.id);
  const calls = await script.calls();
  assert.deepEqual(calls.map((call) => call.path), ['/v1/responses', '/v1/responses']);
  assert.equal(calls[1].body.previous_response_id, said.id);
});
