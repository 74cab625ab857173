"""Anthropic's SDK: complete and streamed messages, tools, and raised errors."""

import anthropic
import pytest
from conftest import KEYS, URL

HI = [{"role": "user", "content": "hi"}]
WEATHER = {
    "name": "weather",
    "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}},
}
USE = {"type": "tool_use", "id": "toolu_1", "name": "weather", "input": {"city": "Ulm"}}


def ask(claude, model, **fields):
    return claude.messages.create(model=model, max_tokens=50, messages=HI, **fields)


def message(*content, stop="end_turn", usage=(3, 4)):
    """Returns a message of the upstream."""
    head = {"id": "msg_1", "type": "message", "role": "assistant", "model": "scripted"}
    counts = {"input_tokens": usage[0], "output_tokens": usage[1]}
    ends = {"stop_reason": stop, "stop_sequence": None}
    return {**head, "content": content, **ends, "usage": counts}


def event(kind, **fields):
    return {"event": kind, "data": {"type": kind, **fields}}


def begins(block):
    return [
        event("message_start", message=message(stop=None, usage=(3, 1))),
        event("content_block_start", index=0, content_block=block),
        event("ping"),
    ]


def delta(**fields):
    return event("content_block_delta", index=0, delta=fields)


def ends(stop="end_turn"):
    return [
        event("content_block_stop", index=0),
        event(
            "message_delta",
            delta={"stop_reason": stop, "stop_sequence": None},
            usage={"output_tokens": 9},
        ),
        event("message_stop"),
    ]


def refusal(status, kind):
    body = {"type": "error", "error": {"type": kind, "message": f"refused with {status}"}}
    return {"status": status, "json": body}


def test_a_message_is_answered(claude):
    raw = claude.messages.with_raw_response.create(model="simulated", max_tokens=50, messages=HI)
    answer = raw.parse()
    assert answer.content[0].text.startswith("Simulated answer to: hi")
    assert answer.stop_reason == "end_turn" and answer.usage.output_tokens > 0
    assert raw.headers["x-causeway-job-id"].startswith("job_simulated_")


def test_a_message_streams(claude):
    with claude.messages.stream(model="simulated", max_tokens=50, messages=HI) as stream:
        text = "".join(stream.text_stream)
        whole = stream.get_final_message()
    assert text.startswith("Simulated answer to: hi") and whole.content[0].text == text
    assert whole.usage.input_tokens > 0 and whole.usage.output_tokens > 1


def test_a_request_reaches_the_upstream(claude, script):
    script.answers({"json": message({"type": "text", "text": "hi"})})
    extra = {"thinking": {"type": "disabled"}, "unknown": [1]}
    beta = {"anthropic-beta": "files-2025-04-14"}
    raw = claude.messages.with_raw_response.create(
        model=script.model,
        max_tokens=50,
        messages=HI,
        system="Be brief.",
        extra_body=extra,
        extra_headers=beta,
    )
    call = script.calls()[0]
    assert call["path"] == "/v1/messages"
    sent = raw.http_request.headers
    assert call["headers"]["anthropic-version"] == sent["anthropic-version"]
    assert call["headers"]["anthropic-beta"] == "files-2025-04-14"
    # The key of the client authenticates it to Causeway and must not reach the upstream.
    assert "x-api-key" not in call["headers"] and "authorization" not in call["headers"]
    asked = {"model": script.model, "max_tokens": 50, "messages": HI, "system": "Be brief."}
    assert call["body"] == asked | extra


def test_tool_calls_pass_in_both_directions(claude, script):
    script.answers({"json": message(USE, stop="tool_use")}, {"json": message()})
    answer = ask(claude, script.model, tools=[WEATHER])
    assert answer.stop_reason == "tool_use" and answer.content[0].input == {"city": "Ulm"}
    result = {"type": "tool_result", "tool_use_id": "toolu_1", "content": "21 degrees"}
    talk = [
        *HI,
        {"role": "assistant", "content": answer.content},
        {"role": "user", "content": [result]},
    ]
    claude.messages.create(model=script.model, max_tokens=50, messages=talk, tools=[WEATHER])
    first, second = script.bodies()
    assert first["tools"] == [WEATHER]
    assert second["messages"][1]["content"] == [USE]
    assert second["messages"][2]["content"] == [result]


def test_tool_input_streams_in_parts(claude, script):
    events = [
        *begins({**USE, "input": {}}),
        delta(type="input_json_delta", partial_json='{"city"'),
        delta(type="input_json_delta", partial_json=': "Ulm"}'),
        *ends("tool_use"),
    ]
    script.answers({"events": events})
    asked = {"model": script.model, "max_tokens": 50, "messages": HI, "tools": [WEATHER]}
    with claude.messages.stream(**asked) as stream:
        kinds = [one.type for one in stream]
        whole = stream.get_final_message()
    assert kinds[0] == "message_start" and kinds.count("input_json") == 2
    assert whole.content[0].input == {"city": "Ulm"} and whole.stop_reason == "tool_use"
    assert (whole.usage.input_tokens, whole.usage.output_tokens) == (3, 9)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("status", "kind", "error"),
    [
        (400, "invalid_request_error", anthropic.BadRequestError),
        (413, "request_too_large", anthropic.APIStatusError),
    ],
)
def test_a_refusal_is_raised_unchanged(claude, script, status, kind, error, stream):
    script.answers(refusal(status, kind))
    with pytest.raises(error) as caught:
        ask(claude, script.model, stream=stream)
    assert caught.value.status_code == status and caught.value.body["error"]["type"] == kind
    assert caught.value.request_id.startswith("req_")
    assert len(script.calls()) == 1


def test_a_wrong_key_is_an_authentication_error():
    with anthropic.Anthropic(base_url=URL, api_key="wrong") as claude:
        with pytest.raises(anthropic.AuthenticationError) as caught:
            ask(claude, "simulated")
    assert caught.value.body["type"] == "error"
    assert caught.value.body["error"]["type"] == "authentication_error"


def test_an_unknown_route_is_not_found(claude):
    with pytest.raises(anthropic.NotFoundError, match="there is no route"):
        claude.messages.batches.list()


def fill(claude, script):
    """Fills Cleo's queue: one job runs, and one waits."""
    script.answers({"hold": True, "json": message()}, {"json": message()})
    for _ in range(2):
        headers = {"prefer": "respond-async"}
        claude.messages.with_raw_response.create(
            model=script.model, max_tokens=50, messages=HI, extra_headers=headers
        )
        script.calls(1)


def test_a_full_queue_is_a_rate_limit_error(script):
    with anthropic.Anthropic(base_url=URL, api_key=KEYS["cleo"], max_retries=0) as claude:
        fill(claude, script)
        with pytest.raises(anthropic.RateLimitError) as caught:
            ask(claude, script.model)
    assert caught.value.body["error"]["type"] == "rate_limit_error"
    assert 1 <= int(caught.value.response.headers["retry-after"]) <= 120
    script.release()
    script.calls(2)


def test_a_call_refused_by_a_full_queue_is_retried(script):
    tries = []

    def seen(request):
        tries.append(request.headers["x-stainless-retry-count"])
        # The queue gets room when the SDK retries for the first time.
        if tries[2:] == ["0", "1"]:
            script.release()

    http = anthropic.DefaultHttpxClient(event_hooks={"request": [seen]})
    with anthropic.Anthropic(base_url=URL, api_key=KEYS["cleo"], http_client=http) as claude:
        fill(claude, script)
        assert ask(claude, script.model).stop_reason == "end_turn"
    assert tries[2:4] == ["0", "1"]


def test_an_overloaded_upstream_delays_the_answer(claude, script):
    script.answers(refusal(529, "overloaded_error"), {"json": message({"type": "text", "text": "at last"})})
    assert ask(claude, script.model).content[0].text == "at last"
    assert len(script.calls()) == 2


@pytest.mark.parametrize("ending", [{"cut": True}, {}], ids=["cut", "without an end"])
def test_a_broken_stream_raises(claude, script, ending):
    said = [*begins({"type": "text", "text": ""}), delta(type="text_delta", text="one"), "hold"]
    script.answers({"events": said, **ending})
    with claude.messages.stream(model=script.model, max_tokens=50, messages=HI) as stream:
        texts = stream.text_stream
        assert next(texts) == "one"
        script.release()
        with pytest.raises(anthropic.APIStatusError) as caught:
            list(texts)
    assert caught.value.body["error"]["type"] == "api_error"


def test_closing_a_stream_early_ends_the_call(claude, script):
    said = [*begins({"type": "text", "text": ""}), delta(type="text_delta", text="one"), "hold"]
    script.answers({"events": said})
    with claude.messages.stream(model=script.model, max_tokens=50, messages=HI) as stream:
        assert next(iter(stream.text_stream)) == "one"
    assert script.left(1) == 1
