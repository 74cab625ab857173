"""Events to webhooks, as the verifiers of OpenAI and of Standard Webhooks read them."""

import base64
import os

import openai
import pytest
import standardwebhooks
from conftest import Script, chat, refusal, says

SECRET = os.environ["WEBHOOK_SECRET"]
OTHER = f"whsec_{base64.b64encode(bytes(32)).decode()}"


@pytest.fixture
def receiver(script):
    """A receiver of events, under a name of its own, that takes all of them."""
    return Script(f"receiver-of-{script.model}").answers({})


@pytest.fixture
def eves():
    """Where Eve is told the ends of what she asks for."""
    return Script("eve").answers({})


def submit(client, script, receiver):
    """A job whose end is told to `receiver`."""
    url = f"{os.environ['UPSTREAM_URL']}/hooks/{receiver.model}"
    body = {"model": script.model, "messages": [{"role": "user", "content": "hi"}]}
    job = {"body": body, "metadata": {"order": "17"}, "webhook": {"url": url}}
    return client.post("/jobs", cast_to=object, body=job)["id"]


def verified(call):
    """The event of a call, which the verifier of Standard Webhooks has let through."""
    return standardwebhooks.Webhook(SECRET).verify(call["raw"], call["headers"])


def test_the_end_of_a_job_passes_both_verifiers(client, script, receiver):
    script.answers({"json": chat("hi")})
    job = submit(client, script, receiver)
    [call] = receiver.calls(1)
    event = verified(call)
    assert event["id"] == call["headers"]["webhook-id"] and event["object"] == "event"
    assert (event["type"], event["data"]["id"]) == ("job.succeeded", job)
    assert event["data"]["metadata"] == {"order": "17"}
    unwrapped = client.webhooks.unwrap(call["raw"], call["headers"], secret=SECRET)
    assert (unwrapped.type, unwrapped.data.id) == ("job.succeeded", job)
    assert unwrapped.created_at == event["created_at"]


def test_another_secret_or_another_body_is_refused_by_both(client, script, receiver):
    script.answers({"json": chat("hi")})
    submit(client, script, receiver)
    [call] = receiver.calls(1)
    changed = call["raw"].replace("job.succeeded", "job.failed")
    for raw, secret in [(call["raw"], OTHER), (changed, SECRET)]:
        with pytest.raises(openai.InvalidWebhookSignatureError):
            client.webhooks.unwrap(raw, call["headers"], secret=secret)
        with pytest.raises(standardwebhooks.WebhookVerificationError):
            standardwebhooks.Webhook(secret).verify(raw, call["headers"])


def test_an_event_that_was_not_taken_comes_again_as_the_same(client, script, receiver):
    script.answers(refusal(400))
    receiver.answers({"status": 500}, {"status": 302, "headers": {"location": "/"}}, {})
    job = submit(client, script, receiver)
    calls = receiver.calls(3)
    events = [verified(call) for call in calls]
    assert (events[0]["type"], events[0]["data"]["id"]) == ("job.failed", job)
    assert events[0] == events[1] == events[2]
    assert len({call["headers"]["webhook-id"] for call in calls}) == 1


@pytest.mark.parametrize(
    ("answer", "kind", "event"),
    [
        ({"events": says("Hello")}, "completed", "ResponseCompletedWebhookEvent"),
        (refusal(400), "failed", "ResponseFailedWebhookEvent"),
    ],
)
def test_the_end_of_a_response_is_told_in_openais_words(
    connect, script, eves, answer, kind, event
):
    client = connect("eve")
    script.answers(answer)
    response = client.responses.create(model=script.model, input="hi", background=True)
    [call] = eves.calls(1)
    verified(call)
    unwrapped = client.webhooks.unwrap(call["raw"], call["headers"], secret=SECRET)
    assert (unwrapped.type, unwrapped.data.id) == (f"response.{kind}", response.id)
    assert type(unwrapped).__name__ == event
    assert client.responses.retrieve(unwrapped.data.id).status == kind


def test_a_response_that_is_cancelled_is_told_as_well(connect, script, eves):
    client = connect("eve")
    script.answers({"hold": True})
    response = client.responses.create(model=script.model, input="hi", background=True)
    script.calls(1)
    client.responses.cancel(response.id)
    [call] = eves.calls(1)
    unwrapped = client.webhooks.unwrap(call["raw"], call["headers"], secret=SECRET)
    assert (unwrapped.type, unwrapped.data.id) == ("response.cancelled", response.id)
