// Webhook events, verified by OpenAI's SDK for JavaScript.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import OpenAI from 'openai';
import { KEYS, Script, URL_V1, chat, says } from './upstream.mjs';

const webhookSecret = process.env.WEBHOOK_SECRET;
const connect = (tenant) => new OpenAI({ baseURL: URL_V1, apiKey: KEYS[tenant], webhookSecret });

test('an event is verified, and a changed one is refused', async () => {
  const client = connect('ann');
  const [script, receiver] = [new Script(), new Script()];
  await script.answers(chat('hi'));
  await receiver.answers({});
  const body = { model: script.model, messages: [] };
  const webhook = { url: `${process.env.UPSTREAM_URL}/hooks/${receiver.model}` };
  const { id } = await client.post('/jobs', { body: { body, webhook } });
  const [{ raw, headers }] = await receiver.calls(1);
  const event = await client.webhooks.unwrap(raw, headers);
  assert.deepEqual([event.type, event.data.id], ['job.succeeded', id]);
  const changed = client.webhooks.unwrap(raw.replace('succeeded', 'failed'), headers);
  await assert.rejects(changed, OpenAI.InvalidWebhookSignatureError);
});

test("the event of a response has OpenAI's form", async () => {
  const client = connect('eve');
  const [script, receiver] = [new Script(), new Script('eve')];
  await script.answers({ events: says('Hello') });
  await receiver.answers({});
  const asked = { model: script.model, input: 'hi', background: true };
  const { id } = await client.responses.create(asked);
  const [{ raw, headers }] = await receiver.calls(1);
  const event = await client.webhooks.unwrap(raw, headers);
  assert.deepEqual([event.type, event.data.id], ['response.completed', id]);
  assert.equal((await client.responses.retrieve(id)).output_text, 'Hello');
});
