"""The fixtures of the tests of Python's SDKs: clients of each tenant, and the scripted upstream."""

import json
import os
import urllib.request
import uuid
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import quote

import anthropic
import openai
import pytest

URL = os.environ["CAUSEWAY_URL"]
KEYS = json.loads(os.environ["KEYS"])

# The time-out of calls to the scripted upstream, which itself waits less.
PATIENCE_S = 40


class Script:
    """The script of one model at the scripted upstream: see upstream.py."""

    def __init__(self, model):
        self.model = model

    def ask(self, method, what, body=None, query=""):
        url = f"{os.environ['UPSTREAM_URL']}/{what}/{quote(self.model, safe='')}{query}"
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(url, data, method=method)
        with urllib.request.urlopen(request, timeout=PATIENCE_S) as answer:
            return json.loads(answer.read())

    def answers(self, *answers):
        self.ask("PUT", "script", answers)
        return self

    def release(self):
        self.ask("POST", "release", {})

    def calls(self, at_least=0):
        return self.ask("GET", "calls", query=f"?wait={at_least}")

    def bodies(self):
        return [call["body"] for call in self.calls()]

    def left(self, at_least):
        return self.ask("GET", "left", query=f"?wait={at_least}")


def chat(content="hi", **message):
    """Returns a complete chat answer."""
    message = {"role": "assistant", "content": content, "refusal": None, **message}
    finish = "tool_calls" if "tool_calls" in message else "stop"
    usage = {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7}
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": finish}
    head = {"id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": "scripted"}
    return {**head, "choices": [choice], "usage": usage}


def chunk(delta=None, finish=None, **fields):
    """Returns a chunk of a streamed chat answer."""
    choices = [{"index": 0, "delta": delta or {}, "finish_reason": finish}]
    head = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "scripted"}
    return {**head, "choices": choices, **fields}


def says(*words):
    """Returns the events of a streamed chat answer."""
    said = [chunk({"content": word}) for word in words]
    return [chunk({"role": "assistant", "content": ""}), *said, chunk(finish="stop"), "[DONE]"]


def refusal(status, code=None, kind="invalid_request_error", **fields):
    """Returns an answer in OpenAI's error envelope."""
    error = {"message": f"refused with {status}", "type": kind, "param": None, "code": code}
    return {"status": status, "json": {"error": error | fields}}


@pytest.fixture
def script():
    """A script under a name that no other test uses."""
    return Script(f"python-{uuid.uuid4()}")


@pytest.fixture
def requests():
    """The requests of the clients so far, as the SDK sent them."""
    return []


@pytest.fixture
def meanwhile():
    """Runs a call in another thread; `.result(PATIENCE_S)` of its result is the answer."""
    with ThreadPoolExecutor() as pool:
        yield pool.submit


@pytest.fixture
def connect(requests):
    """Makes clients of OpenAI's SDK, by default of Ann, the tenant without limits. `seen` is called
    with each request after it was recorded."""
    made = []

    def make(tenant="ann", seen=None, **options):
        hooks = {"request": [requests.append], "response": []}
        hooks["request"] += [seen] if seen else []
        http = openai.DefaultHttpxClient(event_hooks=hooks)
        options = {"api_key": KEYS.get(tenant, tenant), "http_client": http} | options
        made.append(openai.OpenAI(base_url=f"{URL}/v1", **options))
        return made[-1]

    yield make
    for one in made:
        one.close()


@pytest.fixture
def client(connect):
    return connect()


@pytest.fixture
def claude():
    """A client of Anthropic's SDK; its base URL has no /v1."""
    with anthropic.Anthropic(base_url=URL, api_key=KEYS["ann"]) as one:
        yield one
