"""OpenAI's agents: tools, streams, and turns that continue a response, over a chat-only upstream."""

import asyncio

import pytest
from agents import Agent, ModelSettings, OpenAIResponsesModel, Runner, function_tool
from agents import set_tracing_disabled
from conftest import KEYS, URL, chat, says
from openai import AsyncOpenAI

set_tracing_disabled(True)

CALL = {
    "id": "call_1",
    "type": "function",
    "function": {"name": "weather", "arguments": '{"city":"Ulm"}'},
}


@function_tool
def weather(city: str) -> str:
    """The weather of a city."""
    return f"21 degrees in {city}"


@pytest.fixture
def run(script):
    """Runs an agent once, streamed or not; returns its result."""

    async def ended(text, stream, options):
        async with AsyncOpenAI(base_url=f"{URL}/v1", api_key=KEYS["ann"]) as client:
            model = OpenAIResponsesModel(script.model, openai_client=client)
            agent = Agent("a", instructions="Be brief.", model=model, tools=[weather])
            agent.model_settings = ModelSettings(temperature=0)
            if not stream:
                return await Runner.run(agent, text, **options)
            result = Runner.run_streamed(agent, text, **options)
            async for _ in result.stream_events():
                pass
            return result

    return lambda text, stream=False, **options: asyncio.run(ended(text, stream, options))


@pytest.mark.parametrize("stream", [False, True])
def test_a_turn_continues_the_previous_response(run, script, stream):
    answer = (lambda text: {"events": says(text)}) if stream else (lambda text: {"json": chat(text)})
    script.answers(answer("Hello Ann."), answer("You are Ann."))
    first = run("I am Ann.", stream)
    second = run("Who am I?", stream, previous_response_id=first.last_response_id)
    assert (first.final_output, second.final_output) == ("Hello Ann.", "You are Ann.")
    messages = script.bodies()[1]["messages"]
    said = [(one["role"], one["content"]) for one in messages]
    assert said == [
        ("system", "Be brief."),
        ("user", "I am Ann."),
        ("assistant", "Hello Ann."),
        ("user", "Who am I?"),
    ]


def test_tools_work_in_a_stored_conversation(run, script):
    script.answers(
        {"json": chat("Hello Ann.")},
        {"json": chat(None, tool_calls=[CALL])},
        {"json": chat("21 degrees.")},
    )
    first = run("I am Ann.")
    # Each of the two calls sends only new items, and continues the previous response.
    second = run("How warm is it?", previous_response_id=first.last_response_id)
    assert second.final_output == "21 degrees."
    roles = [one["role"] for one in script.bodies()[2]["messages"]]
    assert roles == ["system", "user", "assistant", "user", "assistant", "tool"]
