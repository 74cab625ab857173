"""Direct calls, which bypass the queue, by the SDKs of OpenAI and Anthropic: forms and files."""

import base64
import io

import anthropic
import openai
import pytest
from conftest import refusal

HI = [{"role": "user", "content": "hi"}]

# Larger than any part that a store would keep, and no text.
FILE = bytes(range(256)) * 1024


def test_a_text_is_moderated(client, script):
    result = {"flagged": True, "categories": {}, "category_scores": {}}
    script.answers({"json": {"id": "modr-1", "model": script.model, "results": [result]}})
    assert client.moderations.create(model=script.model, input="hi").results[0].flagged
    [call] = script.calls()
    assert call["path"] == "/v1/moderations"
    assert call["body"] == {"model": script.model, "input": "hi"}


def test_a_recording_is_transcribed(client, script):
    script.answers({"json": {"text": "Hello"}})
    recording = ("a.wav", io.BytesIO(FILE), "audio/wav")
    text = client.audio.transcriptions.create(model=script.model, file=recording).text
    assert text == "Hello"
    [call] = script.calls()
    assert call["path"] == "/v1/audio/transcriptions"
    assert call["headers"]["content-type"].startswith("multipart/form-data; boundary=")
    assert FILE.decode("latin-1") in call["body"]


def test_a_text_is_spoken(client, script):
    spoken = {"base64": base64.b64encode(FILE).decode(), "headers": {"content-type": "audio/mpeg"}}
    script.answers(spoken)
    raw = client.audio.speech.with_raw_response.create(model=script.model, input="hi", voice="alloy")
    assert raw.headers["content-type"] == "audio/mpeg"
    assert raw.content == FILE


def test_images_are_made_and_edited(client, script):
    image = base64.b64encode(FILE).decode()
    script.answers({"json": {"created": 1, "data": [{"b64_json": image}]}})
    made = client.images.generate(model=script.model, prompt="a cat")
    edited = client.images.edit(model=script.model, prompt="a dog", image=io.BytesIO(FILE))
    assert made.data[0].b64_json == edited.data[0].b64_json == image
    paths = [call["path"] for call in script.calls()]
    assert paths == ["/v1/images/generations", "/v1/images/edits"]


def test_the_tokens_of_a_message_are_counted(claude, script):
    script.answers({"json": {"input_tokens": 7}})
    counted = claude.messages.count_tokens(model=script.model, messages=HI)
    assert counted.input_tokens == 7
    [call] = script.calls()
    assert call["path"] == "/v1/messages/count_tokens"
    assert call["headers"]["anthropic-version"]


def test_a_missing_endpoint_is_not_found(client, claude, script):
    for missing in ({"status": 404, "json": {"detail": "Not Found"}}, refusal(404)):
        script.answers(missing)
        with pytest.raises(openai.NotFoundError):
            client.moderations.create(model=script.model, input="hi")
        with pytest.raises(anthropic.NotFoundError) as caught:
            claude.messages.count_tokens(model=script.model, messages=HI)
        assert caught.value.body["type"] == "error"


def test_an_upstream_error_is_raised_unchanged(connect, script):
    client = connect(max_retries=0)
    script.answers(refusal(400, "bad_input"), refusal(401))
    with pytest.raises(openai.BadRequestError, match="refused with 400") as caught:
        client.moderations.create(model=script.model, input="hi")
    assert caught.value.code == "bad_input"
    # The upstream refused the key of Causeway, not the caller's.
    with pytest.raises(openai.InternalServerError, match="refused Causeway's key"):
        client.moderations.create(model=script.model, input="hi")


def test_an_abandoned_call_ends(connect, script):
    script.answers({"hold": True})
    client = connect(timeout=0.5, max_retries=0)
    with pytest.raises(openai.APITimeoutError):
        client.moderations.create(model=script.model, input="hi")
    assert script.left(1) == 1
