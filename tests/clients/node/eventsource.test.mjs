// The `eventsource` package, another EventSource, on the events of a job.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { EventSource } from 'eventsource';
import { KEYS, Script, URL_V1, says } from './upstream.mjs';

const authorization = `Bearer ${KEYS.ann}`;
const KINDS = ['job.queued', 'job.started', 'output.delta', 'job.succeeded'];

/** Submits a job with a streamed answer. */
async function submit(script) {
  const body = JSON.stringify({ body: { model: script.model, messages: [], stream: true } });
  const headers = { authorization, 'content-type': 'application/json' };
  const answer = await fetch(`${URL_V1}/jobs`, { method: 'POST', headers, body });
  assert.equal(answer.status, 202);
  return (await answer.json()).id;
}

/** Opens an EventSource, and counts its connections. */
function open(id, fetches) {
  const withKey = (url, init) => {
    fetches.push(init.headers['Last-Event-ID'] ?? null);
    return fetch(url, { ...init, headers: { ...init.headers, authorization } });
  };
  return new EventSource(`${URL_V1}/jobs/${id}/events`, { fetch: withKey });
}

test('events of a job come once and in order', async () => {
  const script = new Script();
  await script.answers({ events: ['hold', ...says('Hel', 'lo')] });
  const id = await submit(script);
  await script.calls(1);
  const heard = [];
  const source = open(id, []);
  const ended = new Promise((resolve) => {
    for (const kind of KINDS) {
      source.addEventListener(kind, ({ lastEventId, data }) => {
        heard.push({ kind, id: Number(lastEventId), data: JSON.parse(data) });
        if (kind === 'job.succeeded') resolve();
      });
    }
  });
  source.addEventListener('job.started', () => script.release());
  await ended;
  source.close();
  assert.deepEqual(heard.map(({ id }) => id), heard.map((_, place) => place));
  const text = heard.filter(({ kind }) => kind === 'output.delta').map(({ data }) => data.text);
  assert.equal(text.join(''), 'Hello');
  assert.equal(heard.at(-1).data.status, 'succeeded');
});
