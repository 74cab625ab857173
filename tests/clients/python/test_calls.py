"""The results of calls of OpenAI's SDK."""

import base64
import struct

import openai
import pytest
from conftest import KEYS, URL, chat, chunk, says

HI = [{"role": "user", "content": "hi"}]
WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
    },
}


def test_a_chat_is_answered(client):
    answer = client.chat.completions.create(model="simulated", messages=HI)
    assert answer.choices[0].message.content.startswith("Simulated answer to: hi")
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens
    assert answer._request_id.startswith("req_")


def test_a_chat_streams_and_its_usage_comes_last(client):
    stream = client.chat.completions.create(
        model="simulated", messages=HI, stream=True, stream_options={"include_usage": True}
    )
    chunks = list(stream)
    text = "".join(one.choices[0].delta.content or "" for one in chunks if one.choices)
    assert text.startswith("Simulated answer to: hi")
    assert chunks[-2].choices[0].finish_reason == "stop"
    assert chunks[-1].choices == [] and chunks[-1].usage.completion_tokens > 1
    assert all(one.usage is None for one in chunks[:-1])


def test_the_stream_helper_assembles_the_answer(client):
    with client.chat.completions.stream(model="simulated", messages=HI) as stream:
        kinds = {event.type for event in stream}
        whole = stream.get_final_completion()
    assert "content.delta" in kinds and "content.done" in kinds
    assert whole.choices[0].message.content.startswith("Simulated answer to: hi")


async def ask_at_once():
    async with openai.AsyncOpenAI(base_url=f"{URL}/v1", api_key=KEYS["ann"]) as client:
        stream = await client.chat.completions.create(model="simulated", messages=HI, stream=True)
        return [one async for one in stream]


def test_the_asynchronous_client_streams():
    import asyncio

    chunks = asyncio.run(ask_at_once())
    assert chunks[-1].choices[0].finish_reason == "stop"


def test_tool_calls_pass_in_both_directions(client, script):
    call = {
        "id": "call_1",
        "type": "function",
        "function": {"name": "weather", "arguments": '{"city":"Ulm"}'},
    }
    script.answers({"json": chat(None, tool_calls=[call])}, {"json": chat("Sunny.")})
    answer = client.chat.completions.create(
        model=script.model, messages=HI, tools=[WEATHER], tool_choice="auto"
    )
    asked = answer.choices[0].message.tool_calls[0]
    assert (asked.id, asked.function.name) == ("call_1", "weather")
    assert asked.function.arguments == '{"city":"Ulm"}'
    result = {"role": "tool", "tool_call_id": asked.id, "content": "21 degrees"}
    messages = [*HI, answer.choices[0].message, result]
    answer = client.chat.completions.create(model=script.model, messages=messages, tools=[WEATHER])
    assert answer.choices[0].message.content == "Sunny."
    first, second = script.bodies()
    assert first["tools"] == [WEATHER] and first["tool_choice"] == "auto"
    assert second["messages"][1]["tool_calls"] == [call] and second["messages"][2] == result


def test_tool_calls_stream_in_parts(client, script):
    def part(**fields):
        return chunk({"tool_calls": [{"index": 0, **fields}]})

    parts = [
        chunk({"role": "assistant", "content": None}),
        part(id="call_1", type="function", function={"name": "weather", "arguments": ""}),
        part(function={"arguments": '{"city"'}),
        part(function={"arguments": ':"Ulm"}'}),
        chunk(finish="tool_calls"),
        "[DONE]",
    ]
    script.answers({"events": parts})
    with client.chat.completions.stream(
        model=script.model, messages=HI, tools=[WEATHER]
    ) as stream:
        whole = stream.get_final_completion()
    call = whole.choices[0].message.tool_calls[0]
    assert (call.id, call.function.arguments) == ("call_1", '{"city":"Ulm"}')
    assert whole.choices[0].finish_reason == "tool_calls"


def test_several_choices_stream_concurrently(client, script):
    def of(index, text, finish=None):
        one = chunk({"content": text}, finish)
        one["choices"][0]["index"] = index
        return one

    script.answers({"events": [of(0, "a"), of(1, "x"), of(0, "b"), of(1, "y", "stop"), of(0, "c", "stop"), "[DONE]"]})
    texts = {0: "", 1: ""}
    for one in client.chat.completions.create(model=script.model, messages=HI, n=2, stream=True):
        texts[one.choices[0].index] += one.choices[0].delta.content
    assert texts == {0: "abc", 1: "xy"}


def test_embeddings_come_as_floats_and_as_base64(client, script):
    def answer(embedding):
        data = [{"object": "embedding", "index": 0, "embedding": embedding}]
        usage = {"prompt_tokens": 1, "total_tokens": 1}
        return {"json": {"object": "list", "data": data, "model": "scripted", "usage": usage}}

    packed = base64.b64encode(struct.pack("<3f", 0.5, -1.0, 2.0)).decode()
    script.answers(answer(packed), answer([0.5, -1.0, 2.0]), answer(packed))
    # By default the SDK requests base64 and decodes it.
    unpacked = client.embeddings.create(model=script.model, input="hi")
    floats = client.embeddings.create(model=script.model, input="hi", encoding_format="float")
    base = client.embeddings.create(model=script.model, input="hi", encoding_format="base64")
    assert unpacked.data[0].embedding == floats.data[0].embedding == [0.5, -1.0, 2.0]
    assert base.data[0].embedding == packed
    formats = [body["encoding_format"] for body in script.bodies()]
    assert formats == ["base64", "float", "base64"]
    assert client.embeddings.create(model="simulated", input=["a", "b"]).data[1].index == 1


def test_completions_are_complete_or_streamed(client):
    whole = client.completions.create(model="simulated", prompt="hi")
    assert whole.choices[0].text.startswith("Simulated answer to: hi")
    stream = client.completions.create(model="simulated", prompt="hi", stream=True)
    assert "".join(one.choices[0].text for one in stream) == whole.choices[0].text


def test_models_are_those_of_all_lanes(client):
    models = {model.id: model for model in client.models.list()}
    assert {"simulated", "narrow-python"} <= models.keys()
    assert models["simulated"].object == "model" and models["simulated"].owned_by


def test_unknown_fields_reach_the_upstream(client, script):
    script.answers({"json": chat() | {"timings": {"ms": 5}}})
    extra = {"ignore_eos": True, "nested": {"list": [1, None]}}
    answer = client.chat.completions.create(
        model=script.model, messages=HI, metadata={"a": "b"}, extra_body=extra
    )
    sent = script.bodies()[0]
    assert sent == {"model": script.model, "messages": HI, "metadata": {"a": "b"}, **extra}
    assert answer.timings == {"ms": 5}


def test_text_is_forwarded_unchanged(client, script):
    words = ["Grüße, ", "世界 ", "🌍\u2028", '"\\n\n\r\n', "end"]
    script.answers({"events": says(*words)})
    stream = client.chat.completions.create(model=script.model, messages=HI, stream=True)
    assert "".join(one.choices[0].delta.content or "" for one in stream) == "".join(words)


@pytest.mark.parametrize("stream", [False, True])
def test_an_answer_names_its_request_and_its_job(client, stream):
    raw = client.chat.completions.with_raw_response.create(
        model="simulated", messages=HI, stream=stream, extra_headers={"x-request-id": "mine-1"}
    )
    assert raw.request_id == "mine-1"
    job = client.get(f"/jobs/{raw.headers['x-causeway-job-id']}", cast_to=object)
    assert job["object"] == "job" and job["model"] == "simulated"


def test_the_tier_names_the_class(client):
    for tier, named in [("flex", "batch"), ("priority", "interactive"), ("auto", "standard")]:
        raw = client.chat.completions.with_raw_response.create(
            model="simulated", messages=HI, service_tier=tier
        )
        job = client.get(f"/jobs/{raw.headers['x-causeway-job-id']}", cast_to=object)
        assert job["class"] == named


def test_a_rate_limited_tenant_sees_its_budget(connect):
    raw = connect("bob").chat.completions.with_raw_response.create(model="simulated", messages=HI)
    assert raw.headers["x-ratelimit-limit-requests"] == "600"
    assert 0 < int(raw.headers["x-ratelimit-remaining-requests"]) <= 600
    assert raw.headers["x-ratelimit-reset-requests"].endswith("s")
    assert raw.headers["x-ratelimit-limit-tokens"] == "60000"
    assert 0 < int(raw.headers["x-ratelimit-remaining-tokens"]) <= 60000
    assert raw.headers["x-ratelimit-reset-tokens"].endswith("s")
    raw = connect("ann").chat.completions.with_raw_response.create(model="simulated", messages=HI)
    assert not any(name.startswith("x-ratelimit-") for name in raw.headers)
