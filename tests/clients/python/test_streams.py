"""Assembled streams, compared over random streams: the result of the SDK's accumulator for the
upstream itself equals that for Causeway, and equals the answer of a job with the same call."""

import json
import os
import urllib.request
from concurrent.futures import ThreadPoolExecutor

import anthropic
import openai
import pytest
import streams
from conftest import KEYS, PATIENCE_S, URL, Script

HI = [{"role": "user", "content": "hi"}]
UPSTREAM_URL = os.environ["UPSTREAM_URL"]

# The number of streams of each kind, the number of concurrent ones, and the first seed.
CHATS, MESSAGES, COMPLETIONS = 140, 80, 20
AT_ONCE = 8
SEED = 1000

# Members that SDKs add to an answer.
ADDED = {"parsed", "parsed_arguments", "parsed_output"}


def plain(value, name=""):
    """Normalizes an answer: no nulls, no members of an SDK or of streams, and joined halves of
    surrogate pairs, which Python keeps apart."""
    if isinstance(value, dict):
        drops = ADDED | ({"index"} if name == "tool_calls" else set())
        kept = {key: plain(one, key) for key, one in value.items() if key not in drops}
        return {key: one for key, one in kept.items() if one is not None}
    if isinstance(value, list):
        return [plain(one, name) for one in value]
    if isinstance(value, str):
        return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return value


def differences(one, other, place=""):
    """Lists the differences between two answers."""
    if isinstance(one, dict) and isinstance(other, dict):
        names = one.keys() | other.keys()
        pairs = [(name, one.get(name), other.get(name)) for name in sorted(names)]
    elif isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        pairs = [(index, *both) for index, both in enumerate(zip(one, other))]
    else:
        same = one == other and repr(one) == repr(other)
        return [] if same else [f"{place}: {one!r}, not {other!r}"]
    return [word for name, *both in pairs for word in differences(*both, f"{place}/{name}")]


def job(url, body):
    """Returns the answer of a job."""
    data = json.dumps({"url": url, "body": body, "max_attempts": 1}).encode()
    headers = {"authorization": f"Bearer {KEYS['ann']}", "content-type": "application/json"}
    headers["prefer"] = "wait=30"
    request = urllib.request.Request(f"{URL}/v1/jobs", data, headers)
    with urllib.request.urlopen(request, timeout=PATIENCE_S) as answer:
        ended = json.loads(answer.read())
    assert ended["status"] == "succeeded", ended
    return ended["response"]["body"]


def each(kind, count, check):
    """Runs `check(seed, script)` for every seed, several of them concurrently."""

    def run(seed):
        script = Script(f"streams-{kind}-{seed}")
        try:
            check(seed, script)
        except Exception as error:
            raise AssertionError(f"{kind} {seed}: {error}") from error

    with ThreadPoolExecutor(AT_ONCE) as pool:
        list(pool.map(run, range(SEED, SEED + count)))


@pytest.fixture
def openais():
    direct = openai.OpenAI(base_url=f"{UPSTREAM_URL}/v1", api_key="none", max_retries=0)
    through = openai.OpenAI(base_url=f"{URL}/v1", api_key=KEYS["ann"], max_retries=0)
    with direct, through:
        yield direct, through


@pytest.fixture
def anthropics():
    direct = anthropic.Anthropic(base_url=UPSTREAM_URL, api_key="none", max_retries=0)
    through = anthropic.Anthropic(base_url=URL, api_key=KEYS["ann"], max_retries=0)
    with direct, through:
        yield direct, through


def test_chats_equal_the_sdks_result(openais):
    def check(seed, script):
        script.answers({"events": streams.pieces(seed, streams.chat(seed))})

        def accumulated(client):
            with client.chat.completions.stream(model=script.model, messages=HI) as stream:
                # The final completion would raise for a filtered or truncated answer.
                return stream.until_done().current_completion_snapshot.to_dict(mode="python")

        direct, through = (accumulated(client) for client in openais)
        assert not differences(plain(through), plain(direct))
        body = {"model": script.model, "messages": HI, "stream": True}
        answer = job("/v1/chat/completions", body)
        assert not differences(plain(answer), plain(direct))

    each("chat", CHATS, check)


def test_messages_equal_the_sdks_result(anthropics):
    def check(seed, script):
        script.answers({"events": streams.pieces(seed, streams.message(seed))})
        asked = {"model": script.model, "max_tokens": 9, "messages": HI}

        def accumulated(client):
            with client.messages.stream(**asked) as stream:
                return stream.get_final_message().to_dict(mode="python")

        direct, through = (accumulated(client) for client in anthropics)
        assert not differences(plain(through), plain(direct))
        answer = job("/v1/messages", {**asked, "stream": True})
        assert not differences(plain(answer), plain(direct))

    each("message", MESSAGES, check)


def test_text_completions_keep_every_token(openais):
    def check(seed, script):
        blocks, wanted = streams.completion(seed)
        script.answers({"events": streams.pieces(seed, blocks)})
        asked = {"model": script.model, "prompt": "hi", "stream": True}

        def chunks(client):
            return [chunk.to_dict(mode="python") for chunk in client.completions.create(**asked)]

        direct, through = (chunks(client) for client in openais)
        assert not differences(through, direct)
        answer = job("/v1/completions", asked)
        assert not differences(plain(answer["choices"]), plain([wanted]))

    each("completion", COMPLETIONS, check)
