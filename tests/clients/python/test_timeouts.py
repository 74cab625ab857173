"""Clients with a time-out at a slow upstream."""

import anthropic
import openai
import pytest
from conftest import PATIENCE_S, chat, says

HI = [{"role": "user", "content": "hi"}]

# The time-out of the clients, and the part of it after which the upstream answers.
TIMEOUT_S = 2.0
IN_TIME = [0.5, 0.9]
TOO_LATE = 1.5


def message(text):
    """Returns a complete answer in Anthropic's format."""
    usage = {"input_tokens": 3, "output_tokens": 4}
    head = {"id": "msg_1", "type": "message", "role": "assistant", "model": "scripted"}
    content = [{"type": "text", "text": text}]
    return {**head, "content": content, "stop_reason": "end_turn", "stop_sequence": None, "usage": usage}


class OpenAi:
    """OpenAI's SDK, as these tests use it."""

    timed_out, answer = openai.APITimeoutError, staticmethod(chat)

    def __init__(self, client, _):
        self.client = client

    def ask(self, model, **options):
        client = self.client.with_options(timeout=TIMEOUT_S, **options)
        return client.chat.completions.create(model=model, messages=HI).choices[0].message.content


class Anthropic:
    """Anthropic's SDK, as these tests use it."""

    timed_out, answer = anthropic.APITimeoutError, staticmethod(message)

    def __init__(self, _, client):
        self.client = client

    def ask(self, model, **options):
        client = self.client.with_options(timeout=TIMEOUT_S, **options)
        return client.messages.create(model=model, messages=HI, max_tokens=5).content[0].text


@pytest.fixture(params=[OpenAi, Anthropic])
def sdk(request, client, claude):
    return request.param(client, claude)


@pytest.mark.parametrize("part", [*IN_TIME, TOO_LATE])
def test_a_retrying_client_makes_one_call(sdk, script, part):
    script.answers({"after": part * TIMEOUT_S, "json": sdk.answer("fine")})
    assert sdk.ask(script.model) == "fine"
    assert len(script.calls()) == 1


@pytest.mark.parametrize("part", IN_TIME)
def test_a_client_without_retries_is_answered_in_time(sdk, script, part):
    script.answers({"after": part * TIMEOUT_S, "json": sdk.answer("fine")})
    assert sdk.ask(script.model, max_retries=0) == "fine"


def test_a_client_without_retries_times_out(sdk, script):
    script.answers({"hold": True})
    with pytest.raises(sdk.timed_out):
        sdk.ask(script.model, max_retries=0)
    assert script.left(1) == 1


def test_retried_equal_calls_keep_separate_answers(sdk, script, meanwhile):
    words = ["one", "two", "three", "four", "five"]
    slow = ({"after": TOO_LATE * TIMEOUT_S, "json": sdk.answer(word)} for word in words)
    script.answers(*slow)
    asking = [meanwhile(sdk.ask, script.model) for _ in words]
    assert {one.result(PATIENCE_S) for one in asking} == set(words)
    assert len(script.calls()) == len(words)


def test_a_stream_outlives_its_clients_timeout(client, script, requests):
    """The first comment arrives before the time-out, and so do the others."""
    script.answers({"after": 2 * TOO_LATE * TIMEOUT_S, "events": says("late")})
    hasty = client.with_options(timeout=TIMEOUT_S / 2)
    stream = hasty.chat.completions.create(model=script.model, messages=HI, stream=True)
    assert "".join(one.choices[0].delta.content or "" for one in stream) == "late"
    assert len(requests) == len(script.calls()) == 1
