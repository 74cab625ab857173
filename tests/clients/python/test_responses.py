"""Responses by OpenAI's SDK: complete, streamed, in the background, resumed and cancelled.

The upstream supports chat only, unless a test uses the one that supports responses."""

from concurrent.futures import ThreadPoolExecutor

import openai
import pytest
from conftest import PATIENCE_S, Script, chat, chunk, refusal, says
from pydantic import BaseModel

WEATHER = {
    "type": "function",
    "name": "weather",
    "parameters": {
        "type": "object",
        "properties": {"city": {"type": "string"}},
        "required": ["city"],
        "additionalProperties": False,
    },
    "strict": True,
}
CALL = {
    "id": "call_1",
    "type": "function",
    "function": {"name": "weather", "arguments": '{"city":"Ulm"}'},
}
BEGINS = ["response.created", "response.queued", "response.in_progress"]
TEXT_BEGINS = ["response.output_item.added", "response.content_part.added"]
TEXT_ENDS = [
    "response.output_text.done",
    "response.content_part.done",
    "response.output_item.done",
]
DELTA = "response.output_text.delta"


def ask(client, model, **fields):
    return client.responses.create(model=model, input="hi", **fields)


def kinds(events):
    return [event.type for event in events]


def numbers(events):
    return [event.sequence_number for event in events]


def text(events):
    return "".join(event.delta for event in events if event.type == DELTA)


def up_to(stream, kind):
    """Reads the events of a stream up to the first of this kind."""
    heard = []
    for event in stream:
        heard.append(event)
        if event.type == kind:
            return heard
    raise AssertionError(f"no {kind} in {kinds(heard)}")


def ended(client, response):
    """Polls a response until its status is neither queued nor in progress."""
    while response.status in ("queued", "in_progress"):
        response = client.responses.retrieve(response.id)
    return response


def test_a_response_is_answered(client, script):
    script.answers({"json": chat("Hello")})
    response = ask(client, script.model, instructions="Be brief.", metadata={"a": "b"})
    assert (response.status, response.output_text) == ("completed", "Hello")
    assert (response.metadata, response.instructions) == ({"a": "b"}, "Be brief.")
    usage = response.usage
    assert (usage.input_tokens, usage.output_tokens, usage.total_tokens) == (3, 4, 7)
    assert response.id.startswith("resp_") and response._request_id.startswith("req_")
    [call] = script.calls()
    assert call["path"] == "/v1/chat/completions"
    system, user = call["body"]["messages"]
    assert system == {"role": "system", "content": "Be brief."}
    assert user == {"role": "user", "content": "hi"}
    again = client.responses.retrieve(response.id)
    assert (again.status, again.output_text) == ("completed", "Hello")


def test_the_events_of_a_response_are_numbered(client, script):
    script.answers({"events": says("Hel", "lo")})
    events = list(ask(client, script.model, stream=True))
    assert kinds(events) == [
        *BEGINS,
        *TEXT_BEGINS,
        DELTA,
        DELTA,
        *TEXT_ENDS,
        "response.completed",
    ]
    assert numbers(events) == list(range(len(events)))
    assert text(events) == "Hello" and events[-1].response.output_text == "Hello"
    assert {event.response.id for event in events[:3]} == {events[-1].response.id}


def test_the_simulated_upstream_answers_responses(client):
    whole = ask(client, "simulated")
    events = list(ask(client, "simulated", stream=True))
    assert whole.output_text.startswith("Simulated answer to: hi")
    assert text(events) == events[-1].response.output_text
    assert events[-1].response.usage.output_tokens > 1


def test_a_complete_response_has_no_deltas(client):
    response = ask(client, "simulated")
    events = list(client.responses.retrieve(response.id, stream=True))
    assert kinds(events) == [*BEGINS, "response.completed"]
    assert events[-1].response.output_text == response.output_text


def test_the_stream_helper_assembles_the_answer(client, script):
    script.answers({"events": says("Hel", "lo")})
    with client.responses.stream(model=script.model, input="hi") as stream:
        heard = list(stream)
        whole = stream.get_final_response()
    assert text(heard) == whole.output_text == "Hello"


def tool_events():
    def part(**fields):
        return chunk({"tool_calls": [{"index": 0, **fields}]})

    return [
        chunk({"role": "assistant", "content": "Let me look."}),
        part(id="call_1", type="function", function={"name": "weather", "arguments": ""}),
        part(function={"arguments": '{"city"'}),
        part(function={"arguments": ':"Ulm"}'}),
        chunk(finish="tool_calls"),
        "[DONE]",
    ]


def test_tool_calls_are_items_of_the_output(client, script):
    script.answers({"events": tool_events()})
    with client.responses.stream(model=script.model, input="hi", tools=[WEATHER]) as stream:
        arguments = [
            event.delta
            for event in stream
            if event.type == "response.function_call_arguments.delta"
        ]
        whole = stream.get_final_response()
    assert "".join(arguments) == '{"city":"Ulm"}'
    said, called = whole.output
    assert said.content[0].text == "Let me look."
    assert (called.type, called.name, called.call_id) == ("function_call", "weather", "call_1")
    assert called.arguments == '{"city":"Ulm"}' and called.parsed_arguments == {"city": "Ulm"}


def test_a_tool_result_returns_to_the_model(client, script):
    script.answers({"json": chat(None, tool_calls=[CALL])}, {"json": chat("Sunny.")})
    asked = ask(client, script.model, tools=[WEATHER])
    [called] = asked.output
    assert (called.type, called.call_id) == ("function_call", "call_1")
    result = {"type": "function_call_output", "call_id": called.call_id, "output": "21 degrees"}
    answer = client.responses.create(
        model=script.model,
        input=[{"role": "user", "content": "hi"}, *asked.output, result],
        tools=[WEATHER],
    )
    assert answer.output_text == "Sunny."
    first, second = script.bodies()
    function = {name: value for name, value in WEATHER.items() if name != "type"}
    assert first["tools"] == [{"type": "function", "function": function}]
    _, call, told = second["messages"]
    assert call["tool_calls"] == [CALL]
    assert told == {"role": "tool", "tool_call_id": "call_1", "content": "21 degrees"}


class Weather(BaseModel):
    """The schema of an answer."""

    city: str
    degrees: int


def test_an_answer_is_parsed_by_its_schema(client, script):
    said = '{"city":"Ulm","degrees":21}'
    script.answers({"json": chat(said)}, {"events": says(said)})
    asked = {"model": script.model, "input": "hi", "text_format": Weather}
    whole = client.responses.parse(**asked)
    with client.responses.stream(**asked) as stream:
        streamed = stream.get_final_response()
    assert whole.output_parsed == streamed.output_parsed == Weather(city="Ulm", degrees=21)
    for body in script.bodies():
        schema = body["response_format"]
        assert schema["type"] == "json_schema" and schema["json_schema"]["name"] == "Weather"
        assert schema["json_schema"]["schema"]["required"] == ["city", "degrees"]
        assert "text" not in body


def test_a_truncated_answer_is_incomplete(client, script):
    events = [chunk({"content": "Hel"}), chunk(finish="length"), "[DONE]"]
    script.answers({"events": events})
    last = list(ask(client, script.model, stream=True, max_output_tokens=16))[-1]
    assert (last.type, last.response.status) == ("response.incomplete", "incomplete")
    assert last.response.incomplete_details.reason == "max_output_tokens"
    assert last.response.output_text == "Hel"
    assert script.bodies()[0]["max_tokens"] == 16


def test_a_background_response_is_polled(client, script):
    script.answers({"hold": True, "events": says("Hello")})
    response = ask(client, script.model, background=True, metadata={"a": "b"})
    assert (response.status, response.background, response.output) == ("queued", True, [])
    script.calls(1)
    assert client.responses.retrieve(response.id).status == "in_progress"
    script.release()
    whole = ended(client, response)
    assert (whole.status, whole.output_text, whole.id) == ("completed", "Hello", response.id)
    assert whole.metadata == {"a": "b"} and whole.usage is None


def test_a_dropped_stream_resumes_once(client, script):
    script.answers(
        {"events": [chunk({"content": "Once "}), "hold", *says("upon ", "a time")]}
    )
    stream = ask(client, script.model, background=True, stream=True)
    heard = up_to(stream, DELTA)
    stream.close()
    id, last = heard[0].response.id, heard[-1].sequence_number
    rest = client.responses.retrieve(id, stream=True, starting_after=last)
    # The call ran on without its client; a new reader gets the rest.
    script.release()
    rest = list(rest)
    assert numbers(heard + rest) == list(range(len(heard + rest)))
    assert text(heard + rest) == "Once upon a time"
    assert rest[-1].response.output_text == "Once upon a time"
    # A late reader gets all events.
    late = list(client.responses.retrieve(id, stream=True))
    assert [event.to_dict() for event in late] == [event.to_dict() for event in heard + rest]
    assert list(client.responses.retrieve(id, stream=True, starting_after=numbers(late)[-1])) == []
    assert len(script.calls()) == 1


def test_the_helper_resumes_a_stream(client, script):
    script.answers({"events": [chunk({"content": "Once "}), "hold", *says("upon ", "a time")]})
    with client.responses.stream(model=script.model, input="hi", background=True) as stream:
        heard = up_to(stream, DELTA)
    id, last = heard[0].response.id, heard[-1].sequence_number
    with client.responses.stream(response_id=id, starting_after=last) as stream:
        script.release()
        rest = list(stream)
        whole = stream.get_final_response()
    assert numbers(rest) == list(range(last + 1, last + 1 + len(rest)))
    assert text(rest) == "upon a time" and whole.output_text == "Once upon a time"


def test_a_background_stream_opens_before_the_answer(client, script):
    script.answers({"events": ["hold", *says("Hello")]})
    with ask(client, script.model, background=True, stream=True) as stream:
        first = next(iter(stream))
        assert (first.type, first.response.status) == ("response.created", "queued")
        script.release()
        assert text(stream) == "Hello"


def test_closing_a_stream_early_ends_the_call(client, script):
    script.answers({"events": [chunk({"content": "one"}), "hold", *says("two")]})
    stream = ask(client, script.model, stream=True)
    heard = up_to(stream, DELTA)
    stream.close()
    assert script.left(1) == 1
    assert ended(client, client.responses.retrieve(heard[0].response.id)).status == "cancelled"


def test_cancelling_a_response_ends_its_call(client, script):
    script.answers({"events": [chunk({"content": "one"}), "hold"]})
    stream = ask(client, script.model, background=True, stream=True)
    id = up_to(stream, DELTA)[0].response.id
    assert client.responses.cancel(id).status == "cancelled"
    assert script.left(1) == 1
    assert kinds(stream)[-1] == "response.failed"
    assert client.responses.cancel(id).status == "cancelled"
    assert client.responses.retrieve(id).status == "cancelled"


def test_a_waiting_response_is_cancelled(connect, script):
    client = connect("cleo")
    script.answers({"hold": True, "events": says("first")})
    running = ask(client, script.model, background=True)
    script.calls(1)
    waiting = ask(client, script.model, background=True)
    assert client.responses.retrieve(waiting.id).status == "queued"
    cancelled = client.responses.cancel(waiting.id)
    assert (cancelled.status, cancelled.error) == ("cancelled", None)
    script.release()
    assert ended(client, running).output_text == "first"
    assert len(script.calls()) == 1


def test_cancelling_changes_no_ended_response(client):
    response = ended(client, ask(client, "simulated", background=True))
    assert client.responses.cancel(response.id).status == "completed"


def test_an_unknown_response_is_not_found(client, connect):
    response = ask(client, "simulated", background=True)
    for one, id in [(client, "resp_unknown"), (connect("bob"), response.id)]:
        for call in (
            lambda: one.responses.retrieve(id),
            lambda: one.responses.retrieve(id, stream=True),
            lambda: one.responses.cancel(id),
        ):
            with pytest.raises(openai.NotFoundError) as caught:
                call()
            assert caught.value.code == "response_not_found"


@pytest.mark.parametrize(
    ("status", "reason", "code"),
    [
        (400, "context_length_exceeded", "invalid_prompt"),
        (500, None, "server_error"),
    ],
)
def test_a_failed_response_names_its_reason(client, script, status, reason, code):
    script.answers(refusal(status, reason))
    response = ended(client, ask(client, script.model, background=True))
    assert (response.status, response.output) == ("failed", [])
    assert (response.error.code, response.error.message) == (code, f"refused with {status}")
    last = list(ask(client, script.model, background=True, stream=True))[-1]
    assert (last.type, last.response.error.code) == ("response.failed", code)


@pytest.mark.parametrize("stream", [False, True])
def test_a_refusal_is_raised_unchanged(client, script, requests, stream):
    script.answers(refusal(400, "context_length_exceeded", param="input"))
    with pytest.raises(openai.BadRequestError) as caught:
        ask(client, script.model, stream=stream)
    assert (caught.value.code, caught.value.param) == ("context_length_exceeded", "input")
    assert len(requests) == len(script.calls()) == 1


def test_an_untranslatable_request_is_bad(client, script):
    with pytest.raises(openai.BadRequestError, match="web_search"):
        ask(client, script.model, tools=[{"type": "web_search"}])


def test_a_broken_stream_reports_and_completes(client, script):
    broken = {"events": [chunk({"content": "one"}), "hold"], "cut": True}
    script.answers(broken, {"events": says("whole")})
    stream = ask(client, script.model, background=True, stream=True)
    heard = up_to(stream, DELTA)
    script.release()
    heard += stream
    assert kinds(heard)[-1] == "error" and "broke off" in heard[-1].message
    id, last = heard[0].response.id, heard[-1].sequence_number
    rest = list(client.responses.retrieve(id, stream=True, starting_after=last))
    assert kinds(rest) == ["response.completed"] and rest[0].sequence_number == last + 1
    assert rest[0].response.output_text == "whole"


def test_a_retry_joins_the_first_response(connect, script, requests, meanwhile):
    script.answers({"hold": True, "json": chat("once")})
    client = connect(seen=lambda request: len(requests) == 2 and script.release())
    answer = meanwhile(ask, client, script.model, timeout=1).result(PATIENCE_S)
    assert answer.output_text == "once" and len(script.calls()) == 1


@pytest.fixture
def native():
    """The scripted upstream as one that supports responses."""
    return Script("native-python")


UPSTREAMS_ID = "resp_of_upstream"


def said(status="completed", words="Hello", **fields):
    """Returns a response of the upstream."""
    part = {"type": "output_text", "text": words, "annotations": []}
    item = {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "status": "completed",
        "content": [part],
    }
    usage = {
        "input_tokens": 3,
        "input_tokens_details": {"cached_tokens": 1},
        "output_tokens": 4,
        "output_tokens_details": {"reasoning_tokens": 2},
        "total_tokens": 7,
    }
    head = {"id": UPSTREAMS_ID, "object": "response", "created_at": 1, "model": "scripted-1"}
    is_done = status == "completed"
    tail = {"output": [item] if is_done else [], "usage": usage if is_done else None}
    choice = {"tools": [], "tool_choice": "auto", "parallel_tool_calls": True}
    return {**head, "status": status, **tail, **choice, **fields}


def native_events(*words):
    """Returns the upstream's events of a response, with its own numbers."""

    def about(kind, **fields):
        return kind, {"item_id": "msg_1", "output_index": 0, "content_index": 0, **fields}

    item = {"id": "msg_1", "type": "message", "role": "assistant", "content": []}
    part = {"type": "output_text", "annotations": []}
    whole = "".join(words)
    events = [
        ("response.created", {"response": said("in_progress")}),
        ("response.in_progress", {"response": said("in_progress")}),
        ("response.output_item.added", {"output_index": 0, "item": item}),
        about("response.content_part.added", part={**part, "text": ""}),
        *(about(DELTA, delta=word, logprobs=[]) for word in words),
        about("response.output_text.done", text=whole, logprobs=[]),
        about("response.content_part.done", part={**part, "text": whole}),
        ("response.output_item.done", {"output_index": 0, "item": said()["output"][0]}),
        ("response.completed", {"response": said(words=whole)}),
    ]
    return [
        {"event": kind, "data": {"type": kind, "sequence_number": 40 + number, **data}}
        for number, (kind, data) in enumerate(events)
    ]


def test_a_native_upstream_gets_the_request_unchanged(client, native):
    native.answers({"json": said(service_tier="default", unknown=[1])})
    asked = {"include": ["reasoning.encrypted_content"], "extra_body": {"ignore_eos": True}}
    raw = client.responses.with_raw_response.create(
        model=native.model, input="hi", metadata={"a": "b"}, **asked
    )
    response = raw.parse()
    assert UPSTREAMS_ID not in raw.text
    assert response.id == raw.headers["x-causeway-job-id"].replace("job_", "resp_", 1)
    assert (response.output_text, response.metadata) == ("Hello", {"a": "b"})
    assert (response.service_tier, response.unknown) == ("default", [1])
    assert response.usage.output_tokens_details.reasoning_tokens == 2
    [call] = native.calls()
    sent = {"model": native.model, "input": "hi", "metadata": {"a": "b"}, "ignore_eos": True}
    assert call["path"] == "/v1/responses"
    assert call["body"] == {**sent, "include": ["reasoning.encrypted_content"]}


@pytest.mark.parametrize("background", [False, True])
def test_native_events_get_our_id_and_numbers(client, native, background):
    native.answers({"events": native_events("Hel", "lo")})
    events = list(ask(client, native.model, stream=True, background=background))
    assert kinds(events) == [
        *BEGINS,
        *TEXT_BEGINS,
        DELTA,
        DELTA,
        *TEXT_ENDS,
        "response.completed",
    ]
    assert numbers(events) == list(range(len(events)))
    assert UPSTREAMS_ID not in "".join(event.to_json() for event in events)
    response = events[-1].response
    assert (response.output_text, response.usage.total_tokens) == ("Hello", 7)
    assert response.background == background
    assert client.responses.retrieve(response.id).output_text == "Hello"
    assert "background" not in native.bodies()[0]


def test_a_native_response_is_continued(client, native):
    native.answers({"json": said()}, {"json": said(previous_response_id=UPSTREAMS_ID)})
    first = ask(client, native.model)
    second = ask(client, native.model, previous_response_id=first.id)
    assert native.bodies()[1]["previous_response_id"] == UPSTREAMS_ID
    assert second.previous_response_id == first.id != second.id


def test_a_forgotten_native_response_is_not_found(client, native):
    native.answers({"json": said()}, refusal(404, param="previous_response_id"))
    first = ask(client, native.model)
    with pytest.raises(openai.NotFoundError, match="refused with 404"):
        ask(client, native.model, previous_response_id=first.id)
    assert [call["path"] for call in native.calls()] == ["/v1/responses"] * 2


def test_a_response_continues_a_chat_answer(client, script):
    script.answers(
        {"json": chat(None, reasoning_content="hm", tool_calls=[CALL])},
        {"json": chat("Sunny.")},
        {"events": says("Still sunny.")},
    )
    first = ask(client, script.model, tools=[WEATHER], instructions="Be brief.")
    result = {"type": "function_call_output", "call_id": "call_1", "output": "21 degrees"}
    goes_on = {"model": script.model, "tools": [WEATHER]}
    second = client.responses.create(**goes_on, previous_response_id=first.id, input=[result])
    third = client.responses.create(**goes_on, previous_response_id=second.id, input="And now?")
    assert second.previous_response_id == first.id
    assert third.output_text == "Still sunny."
    hi, call, told = script.bodies()[1]["messages"]
    assert hi == {"role": "user", "content": "hi"}
    assert (call["tool_calls"], call["reasoning_content"]) == ([CALL], "hm")
    assert told == {"role": "tool", "tool_call_id": "call_1", "content": "21 degrees"}
    messages = script.bodies()[2]["messages"]
    assert messages[:3] == [hi, call, told]
    assert [one["content"] for one in messages[3:]] == ["Sunny.", "And now?"]


def test_responses_of_a_conversation_continue_each_other(client, script):
    script.answers({"json": chat("Hello Ann.")}, {"events": says("Ann.")})
    conversation = client.conversations.create()
    asked = {"model": script.model, "conversation": conversation.id}
    first = client.responses.create(input="I am Ann.", **asked)
    second = client.responses.create(input="Who am I?", **asked)
    assert (second.output_text, second.conversation.id) == ("Ann.", conversation.id)
    contents = [one["content"] for one in script.bodies()[1]["messages"]]
    assert contents == ["I am Ann.", "Hello Ann.", "Who am I?"]
    items = list(client.conversations.items.list(conversation.id, order="asc"))
    assert [item.content[0].text for item in items] == [*contents, "Ann."]
    client.conversations.delete(conversation.id)
    assert client.responses.retrieve(first.id).output_text == "Hello Ann."


def test_a_conversation_is_made_with_items_and_read(client, script):
    script.answers({"json": chat("Ann.")})
    said = {"type": "message", "role": "user", "content": "I am Ann."}
    made = client.conversations.create(items=[said], metadata={"a": "b"})
    assert client.conversations.retrieve(made.id) == made and made.metadata == {"a": "b"}
    assert client.conversations.update(made.id, metadata={"c": "d"}).metadata == {"c": "d"}
    client.responses.create(model=script.model, conversation=made.id, input="Who am I?")
    items = client.conversations.items.list(made.id, order="asc")
    assert [item.content[0].text for item in items] == ["I am Ann.", "Who am I?", "Ann."]
    assert client.conversations.delete(made.id).deleted
    conversations = client.conversations
    for call in (conversations.retrieve, conversations.items.list, conversations.delete):
        with pytest.raises(openai.NotFoundError, match="Conversation with id"):
            call(made.id)
    for unknown in (made.id, "conv_1"):
        with pytest.raises(openai.NotFoundError, match="Conversation with id"):
            client.responses.create(model=script.model, conversation=unknown, input="Who am I?")


def test_concurrent_turns_are_retried(client, script):
    script.answers(*[{"json": chat("Hello")}] * 3)
    conversation = client.conversations.create()
    patient = client.with_options(max_retries=20)

    def turn(word):
        asked = {"model": script.model, "conversation": conversation.id, "input": word}
        return patient.responses.create(**asked).output_text

    words = ["one", "two", "three"]
    with ThreadPoolExecutor(3) as pool:
        assert list(pool.map(turn, words)) == ["Hello"] * 3
    items = client.conversations.items.list(conversation.id, order="asc")
    asked = [item.content[0].text for item in items if item.role == "user"]
    assert sorted(asked) == sorted(words)


def test_an_unstored_response_cannot_be_continued(client, script):
    script.answers({"json": chat("Hello")})
    first = ask(client, script.model, store=False)
    with pytest.raises(openai.BadRequestError, match="whole conversation") as caught:
        ask(client, script.model, previous_response_id=first.id)
    assert caught.value.param == "previous_response_id"


def test_the_input_of_a_response_is_listed(client, script):
    script.answers({"json": chat("Hello")})
    first = ask(client, script.model)
    second = ask(client, script.model, previous_response_id=first.id)
    items = list(client.responses.input_items.list(second.id, order="asc", limit=2))
    assert [item.role for item in items] == ["user", "assistant", "user"]
    assert [item.content[0].text for item in items] == ["hi", "Hello", "hi"]
    newest = client.responses.input_items.list(second.id, limit=1)
    assert newest.has_more and newest.data[0].id == items[-1].id


def test_a_deleted_response_is_gone(client, script):
    script.answers({"json": chat("Hello")}, {"hold": True, "events": says("Hello")})
    answered = ask(client, script.model)
    running = ask(client, script.model, background=True)
    script.calls(2)
    for response in (answered, running):
        client.responses.delete(response.id)
        for call in (client.responses.retrieve, client.responses.delete):
            with pytest.raises(openai.NotFoundError):
                call(response.id)
    assert script.left(1) == 1


def test_images_and_files_reach_the_chat(client, script):
    script.answers({"json": chat("A cat.")})
    picture, paper = "data:image/png;base64,AA==", "data:application/pdf;base64,AA=="
    parts = [
        {"type": "input_text", "text": "What is this?"},
        {"type": "input_image", "image_url": picture, "detail": "auto"},
        {"type": "input_file", "filename": "a.pdf", "file_data": paper},
    ]
    client.responses.create(model=script.model, input=[{"role": "user", "content": parts}])
    [message] = script.bodies()[0]["messages"]
    text, image, file = message["content"]
    assert text == {"type": "text", "text": "What is this?"}
    assert image["image_url"] == {"url": picture, "detail": "auto"}
    assert file["file"] == {"filename": "a.pdf", "file_data": paper}


def test_reasoning_comes_before_the_text(client, script):
    thinks = [chunk({"reasoning_content": word}) for word in ("h", "m")]
    script.answers({"events": [*thinks, *says("Hello")]})
    with client.responses.stream(model=script.model, input="hi") as stream:
        heard = list(stream)
        whole = stream.get_final_response()
    thought = [one.delta for one in heard if one.type == "response.reasoning_summary_text.delta"]
    assert "".join(thought) == "hm"
    reasoning, message = whole.output
    assert (reasoning.type, reasoning.summary[0].text) == ("reasoning", "hm")
    assert message.content[0].text == "Hello"


def test_a_failed_native_response_fails(client, native):
    error = {"code": "server_error", "message": "out of memory"}
    failed = said("failed", error=error)
    data = {"type": "response.failed", "sequence_number": 1, "response": failed}
    native.answers({"events": [{"event": "response.failed", "data": data}]})
    response = ended(client, ask(client, native.model, background=True))
    assert response.status == "failed" and "out of memory" in response.error.message
