// The scripted upstream (see upstream.py) and the answers of its scripts.

import { randomUUID } from 'node:crypto';

export const URL_V1 = `${process.env.CAUSEWAY_URL}/v1`;
export const KEYS = JSON.parse(process.env.KEYS);

// The time-out of calls to the scripted upstream, which itself waits less.
const PATIENCE_MS = 40_000;

export class Script {
  constructor(model = `node-${randomUUID()}`) {
    this.model = model;
  }

  async ask(method, what, body, query = '') {
    const url = `${process.env.UPSTREAM_URL}/${what}/${encodeURIComponent(this.model)}${query}`;
    const signal = AbortSignal.timeout(PATIENCE_MS);
    return (await fetch(url, { method, body: body && JSON.stringify(body), signal })).json();
  }

  answers(...answers) {
    return this.ask('PUT', 'script', answers);
  }

  release() {
    return this.ask('POST', 'release', {});
  }

  calls(atLeast = 0) {
    return this.ask('GET', 'calls', undefined, `?wait=${atLeast}`);
  }

  left(atLeast) {
    return this.ask('GET', 'left', undefined, `?wait=${atLeast}`);
  }
}

const HEAD = { id: 'chatcmpl-1', created: 1, model: 'scripted' };

export const CALL = {
  id: 'call_1',
  type: 'function',
  function: { name: 'weather', arguments: '{"city":"Ulm"}' },
};

/** Returns a complete chat answer. */
export function chat(content, more = {}) {
  const message = { role: 'assistant', content, refusal: null, ...more };
  const finish_reason = more.tool_calls ? 'tool_calls' : 'stop';
  const usage = { prompt_tokens: 3, completion_tokens: 4, total_tokens: 7 };
  const choices = [{ index: 0, message, logprobs: null, finish_reason }];
  return { json: { ...HEAD, object: 'chat.completion', choices, usage } };
}

/** Returns a chunk of a streamed chat answer. */
export function chunk(delta, finish_reason = null) {
  return { ...HEAD, object: 'chat.completion.chunk', choices: [{ index: 0, delta, finish_reason }] };
}

/** Returns the events of a streamed chat answer. */
export function says(...words) {
  const said = words.map((content) => chunk({ content }));
  return [chunk({ role: 'assistant', content: '' }), ...said, chunk({}, 'stop'), '[DONE]'];
}

/** Returns the events of a streamed tool call, in parts. */
export function callsTool() {
  const part = (fields) => chunk({ tool_calls: [{ index: 0, ...fields }] });
  return [
    chunk({ role: 'assistant', content: null }),
    part({ id: CALL.id, type: 'function', function: { name: 'weather', arguments: '' } }),
    part({ function: { arguments: '{"city"' } }),
    part({ function: { arguments: ':"Ulm"}' } }),
    chunk({}, 'tool_calls'),
    '[DONE]',
  ];
}

/** Returns an answer in OpenAI's error envelope. */
export function refusal(status, code = null, type = 'invalid_request_error') {
  const error = { message: `refused with ${status}`, type, param: 'messages', code };
  return { status, json: { error } };
}
