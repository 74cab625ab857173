"""LangChain and LiteLLM, by their public calls."""

import litellm
import pytest
from conftest import KEYS, URL, chat, says
from langchain_core.messages import HumanMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI, OpenAIEmbeddings

CALL = {
    "id": "call_1",
    "type": "function",
    "function": {"name": "weather", "arguments": '{"city":"Ulm"}'},
}
REACHED = {"base_url": f"{URL}/v1", "api_key": KEYS["ann"]}
LITELLM = {"api_base": f"{URL}/v1", "api_key": KEYS["ann"]}


@tool
def weather(city: str) -> str:
    """The weather of a city."""
    return f"21 degrees in {city}"


@pytest.mark.parametrize("responses", [False, True])
def test_langchain_gets_complete_and_streamed_answers(script, responses):
    script.answers({"json": chat("Hello")}, {"events": says("Hel", "lo")})
    model = ChatOpenAI(model=script.model, use_responses_api=responses, **REACHED)
    assert model.invoke("hi").text == "Hello"
    assert "".join(piece.text for piece in model.stream("hi")) == "Hello"
    assert [body["model"] for body in script.bodies()] == [script.model] * 2


@pytest.mark.parametrize("responses", [False, True])
def test_langchain_calls_tools(script, responses):
    script.answers({"json": chat(None, tool_calls=[CALL])}, {"json": chat("Sunny.")})
    model = ChatOpenAI(model=script.model, use_responses_api=responses, **REACHED)
    model = model.bind_tools([weather])
    asked = [HumanMessage("hi")]
    called = model.invoke(asked)
    [call] = called.tool_calls
    assert (call["name"], call["args"]) == ("weather", {"city": "Ulm"})
    assert model.invoke([*asked, called, weather.invoke(call)]).text == "Sunny."
    _, assistant, told = script.bodies()[1]["messages"]
    assert assistant["tool_calls"][0]["id"] == told["tool_call_id"] == "call_1"


def test_langchain_continues_a_response(script):
    script.answers({"json": chat("Hello")}, {"json": chat("Ann.")})
    options = {"use_responses_api": True, "use_previous_response_id": True}
    model = ChatOpenAI(model=script.model, **options, **REACHED)
    asked = [HumanMessage("I am Ann.")]
    first = model.invoke(asked)
    assert model.invoke([*asked, first, HumanMessage("Who am I?")]).text == "Ann."
    contents = [one["content"] for one in script.bodies()[1]["messages"]]
    assert contents == ["I am Ann.", "Hello", "Who am I?"]


def test_langchain_embeds():
    model = OpenAIEmbeddings(model="simulated", check_embedding_ctx_length=False, **REACHED)
    first, second = model.embed_documents(["a", "b"])
    assert len(first) == len(second) and first != second


def test_litellm_gets_complete_and_streamed_answers(script):
    script.answers({"json": chat("Hello")}, {"events": says("Hel", "lo")})
    asked = {"model": f"openai/{script.model}", "messages": [{"role": "user", "content": "hi"}]}
    assert litellm.completion(**asked, **LITELLM).choices[0].message.content == "Hello"
    pieces = litellm.completion(**asked, stream=True, **LITELLM)
    assert "".join(piece.choices[0].delta.content or "" for piece in pieces) == "Hello"


def test_litellm_continues_a_response(script):
    script.answers({"json": chat("Hello")}, {"json": chat("Ann.")})
    asked = {"model": f"openai/{script.model}", **LITELLM}
    first = litellm.responses(input="I am Ann.", **asked)
    second = litellm.responses(input="Who am I?", previous_response_id=first.id, **asked)
    assert second.output_text == "Ann."
    contents = [one["content"] for one in script.bodies()[1]["messages"]]
    assert contents == ["I am Ann.", "Hello", "Who am I?"]


def test_litellm_embeds():
    embedded = litellm.embedding(model="openai/simulated", input=["a", "b"], **LITELLM)
    assert len(embedded.data) == 2


def test_litellm_raises_a_wrong_key(script):
    asked = {"model": f"openai/{script.model}", "messages": [{"role": "user", "content": "hi"}]}
    with pytest.raises(litellm.AuthenticationError, match="API key"):
        litellm.completion(**asked, api_base=f"{URL}/v1", api_key="wrong", max_retries=0)
