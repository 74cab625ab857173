"""Waiting calls, and calls of leaving clients."""

import threading

import openai
import pytest
from conftest import PATIENCE_S, Script, chat, chunk, says

HI = [{"role": "user", "content": "hi"}]

# A client that times out early, and retries.
HASTY = {"timeout": 1}


def ask(client, model, **fields):
    return client.chat.completions.create(model=model, messages=HI, **fields)


def text(stream):
    return "".join(one.choices[0].delta.content or "" for one in stream)


def job(client, raw):
    """Waits until the job of an answer has ended; returns it."""
    return client.get(f"/jobs/{raw.headers['x-causeway-job-id']}?wait=20", cast_to=object)


def test_a_retry_joins_the_first_job(connect, script, requests, meanwhile):
    script.answers({"hold": True, "json": chat("once")})
    came_again = threading.Event()
    client = connect(seen=lambda request: len(requests) == 2 and came_again.set())
    asking = meanwhile(ask, client, script.model, **HASTY)
    assert came_again.wait(PATIENCE_S)
    script.release()
    assert asking.result(PATIENCE_S).choices[0].message.content == "once"
    assert requests[1].headers["x-stainless-retry-count"] == "1"
    assert len(script.calls()) == 1


def test_concurrent_equal_calls_are_separate_jobs(client, script, meanwhile):
    """Equal calls, as for sampling a model; retries must not merge them into one."""
    words = ["one", "two", "three", "four"]
    script.answers(*({"hold": True, "json": chat(word)} for word in words))
    assert client.max_retries > 0
    asking = [meanwhile(ask, client.with_raw_response, script.model) for _ in words]
    script.calls(len(words))
    for _ in words:
        script.release()
    answers = [one.result(PATIENCE_S) for one in asking]
    texts = {one.parse().choices[0].message.content for one in answers}
    assert texts == set(words) and len(script.calls()) == len(words)
    assert len({one.headers["x-causeway-job-id"] for one in answers}) == len(words)


def test_a_leaving_client_cancels_its_job(client, script):
    script.answers({"hold": True})
    with pytest.raises(openai.APITimeoutError):
        ask(client.with_options(max_retries=0), script.model, **HASTY)
    assert script.left(1) == 1


def test_closing_a_stream_early_ends_the_call(client, script):
    script.answers({"events": [chunk({"content": "one"}), "hold", *says("two")]})
    raw = ask(client.with_raw_response, script.model, stream=True)
    stream = raw.parse()
    assert next(iter(stream)).choices[0].delta.content == "one"
    stream.close()
    assert script.left(1) == 1
    assert job(client, raw)["status"] == "cancelled"


def test_a_stored_call_outlives_its_client(client, script):
    script.answers({"events": [chunk({"content": "one"}), "hold", chunk(finish="stop"), "[DONE]"]})
    raw = ask(client.with_raw_response, script.model, stream=True, store=True)
    stream = raw.parse()
    next(iter(stream))
    stream.close()
    script.release()
    assert job(client, raw)["status"] == "succeeded"


def test_comments_keep_a_waiting_stream_alive(client, meanwhile):
    """Three streams in a lane for one: the waiting ones get comments with their positions."""
    script = Script("narrow-python")
    script.answers({"events": ["hold", *says("first")]}, {"events": says("other")})
    first = meanwhile(lambda: text(ask(client, script.model, stream=True)))
    script.calls(1)
    second = client.chat.completions.with_streaming_response.create(
        model=script.model, messages=HI, stream=True
    )
    with second as raw:
        third = meanwhile(lambda: text(ask(client, script.model, stream=True)))
        received = raw.iter_lines()
        lines = [next(received)]
        script.release()
        lines += received
    assert (first.result(PATIENCE_S), third.result(PATIENCE_S)) == ("first", "other")
    assert lines[0].startswith(": queued position=")
    assert "data: [DONE]" in lines
    # A comment with an id would make the SDK raise an error.
    assert not any(line.startswith(("id:", "retry:", "event:")) for line in lines)
