"""Webhook events, checked by the verifiers of OpenAI and of Standard Webhooks."""

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
    """A receiver under a name that no other test uses, which accepts all events."""
    return Script(f"receiver-of-{script.model}").answers({})


@pytest.fixture
def eves():
    """The receiver of Eve's events."""
    return Script("eve").answers({})


def submit(client, script, receiver):
    """Submits a job with a webhook event for `receiver`."""
    url = f"{os.environ['UPSTREAM_URL']}/hooks/{receiver.model}"
    body = {"model": script.model, "messages": [{"role": "user", "content": "hi"}]}
    job = {"body": body, "metadata": {"order": "17"}, "webhook": {"url": url}}
    return client.post("/jobs", cast_to=object, body=job)["id"]


def verified(call):
    """Verifies the call of a webhook by Standard Webhooks; returns the event."""
    return standardwebhooks.Webhook(SECRET).verify(call["raw"], call["headers"])


def test_an_event_passes_both_verifiers(client, script, receiver):
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


def test_both_verifiers_refuse_a_changed_event(client, script, receiver):
    script.answers({"json": chat("hi")})
    submit(client, script, receiver)
    [call] = receiver.calls(1)
    changed = call["raw"].replace("job.succeeded", "job.failed")
    for raw, secret in [(call["raw"], OTHER), (changed, SECRET)]:
        with pytest.raises(openai.InvalidWebhookSignatureError):
            client.webhooks.unwrap(raw, call["headers"], secret=secret)
        with pytest.raises(standardwebhooks.WebhookVerificationError):
            standardwebhooks.Webhook(secret).verify(raw, call["headers"])


def test_a_refused_event_is_sent_again_unchanged(client, script, receiver):
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
def test_a_response_event_has_openais_form(
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


def test_a_cancelled_response_sends_an_event(connect, script, eves):
    client = connect("eve")
    script.answers({"hold": True})
    response = client.responses.create(model=script.model, input="hi", background=True)
    script.calls(1)
    client.responses.cancel(response.id)
    [call] = eves.calls(1)
    unwrapped = client.webhooks.unwrap(call["raw"], call["headers"], secret=SECRET)
    assert (unwrapped.type, unwrapped.data.id) == ("response.cancelled", response.id)
