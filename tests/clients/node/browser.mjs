// A page of another origin in a headless Chromium: `make test-browser`. It is not a part of `make test-clients`, as a
// browser is larger than all other clients together.

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { createServer } from 'node:http';
import { test } from 'node:test';
import { KEYS, Script, URL_V1, says } from './upstream.mjs';

// The time-out of the browser's start, and of the page's calls.
const PATIENCE_MS = 60_000;

/** The script of the page: it calls, reads a stream as it arrives, and is refused without a key. */
async function page(url, key, model) {
  const call = (headers) => {
    const body = JSON.stringify({ model, stream: true, messages: [{ role: 'user', content: 'hi' }] });
    const sent = { 'content-type': 'application/json', 'x-stainless-retry-count': '0', ...headers };
    return fetch(`${url}/chat/completions`, { method: 'POST', headers: sent, body });
  };
  const refused = await call({});
  const answer = await call({ authorization: `Bearer ${key}` });
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let text = '';
  for (let read = await reader.read(); !read.done; read = await reader.read()) text += read.value;
  const job = answer.headers.get('x-causeway-job-id');
  const headers = { authorization: `Bearer ${key}` };
  const known = await (await fetch(`${url}/jobs/${job}`, { headers })).json();
  return { refused: refused.status, text, status: known.status };
}

/** Serves the page at a separate origin, to which it posts its result. */
async function serve(model) {
  const told = [URL_V1, KEYS.ann, model].map((one) => JSON.stringify(one)).join(', ');
  const script = `${page}
    page(${told}).catch((error) => ({ error: String(error) }))
      .then((result) => fetch('/result', { method: 'POST', body: JSON.stringify(result) }));`;
  const html = `<!doctype html><meta charset="utf-8"><title>a page</title><script>${script}</script>`;
  const server = createServer(async (request, response) => {
    response.setHeader('content-type', 'text/html');
    response.end(html);
    if (request.method !== 'POST') return;
    let posted = '';
    for await (const piece of request) posted += piece;
    server.emit('result', JSON.parse(posted));
  });
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
  return server;
}

test('a page of another origin calls with a key, and reads a stream', async (t) => {
  const script = new Script();
  await script.answers({ events: says('Hello') });
  const server = await serve(script.model);
  const origin = `http://localhost:${server.address().port}`;
  // A browser with a debugger port runs until it is killed.
  const flags = ['--headless=new', '--no-sandbox', '--disable-gpu', '--remote-debugging-port=0'];
  const browser = spawn(process.env.CHROMIUM ?? 'chromium', [...flags, `${origin}/`], { stdio: 'ignore' });
  t.after(() => {
    browser.kill();
    server.closeAllConnections();
    server.close();
  });
  const [result] = await once(server, 'result', { signal: AbortSignal.timeout(PATIENCE_MS) });
  assert.equal(result.error, undefined);
  assert.deepEqual([result.refused, result.status], [401, 'succeeded']);
  assert.match(result.text, /"Hello".*\[DONE\]/s);
});
