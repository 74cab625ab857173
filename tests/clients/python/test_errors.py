"""The errors and the retries of OpenAI's SDK."""

import openai
import pytest
from conftest import chat, chunk, refusal, says

HI = [{"role": "user", "content": "hi"}]


def ask(client, model, **fields):
    return client.chat.completions.create(model=model, messages=HI, **fields)


def raised(kind, call):
    with pytest.raises(kind) as caught:
        call()
    return caught.value


@pytest.mark.parametrize("stream", [False, True])
def test_a_wrong_key_is_an_authentication_error(connect, stream):
    error = raised(
        openai.AuthenticationError, lambda: ask(connect("wrong"), "simulated", stream=stream)
    )
    assert (error.status_code, error.code) == (401, "invalid_api_key")
    assert error.request_id.startswith("req_")


def test_an_unknown_route_is_not_found(client):
    error = raised(openai.NotFoundError, lambda: client.fine_tuning.jobs.list())
    assert error.code == "unknown_route" and "/openapi.json" in str(error)
    assert error.request_id.startswith("req_")


def test_another_tenants_job_is_not_found(client, connect):
    raw = client.chat.completions.with_raw_response.create(model="simulated", messages=HI)
    job = f"/jobs/{raw.headers['x-causeway-job-id']}"
    assert client.get(job, cast_to=object)["status"] == "succeeded"
    raised(openai.NotFoundError, lambda: connect("bob").get(job, cast_to=object))


def test_an_invalid_call_is_a_bad_request(client, requests):
    headers = {"x-causeway-class": "fast"}
    wrong = lambda: ask(client, "simulated", extra_headers=headers)  # noqa: E731
    error = raised(openai.BadRequestError, wrong)
    assert error.param == "x-causeway-class" and "interactive" in str(error)
    assert len(requests) == 1


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (400, "context_length_exceeded", openai.BadRequestError),
        (422, None, openai.UnprocessableEntityError),
    ],
)
def test_a_refusal_is_raised_unchanged(
    client, script, requests, status, code, kind, stream
):
    script.answers(refusal(status, code, param="messages"))
    error = raised(kind, lambda: ask(client, script.model, stream=stream))
    assert (error.status_code, error.code, error.param) == (status, code, "messages")
    assert f"refused with {status}" in error.message
    assert len(script.calls()) == len(requests) == 1


def test_a_reused_key_is_unprocessable(client):
    headers = {"idempotency-key": f"key-{id(client)}"}
    ask(client, "simulated", extra_headers=headers)
    other = lambda: ask(client, "simulated", extra_headers=headers, temperature=1)  # noqa: E731
    assert raised(openai.UnprocessableEntityError, other).code == "idempotency_key_reused"


@pytest.mark.parametrize("stream", [False, True])
def test_a_permanent_failure_is_not_retried(client, script, requests, stream):
    script.answers(refusal(500, kind="server_error"))
    error = raised(openai.InternalServerError, lambda: ask(client, script.model, stream=stream))
    assert error.status_code == 500 and error.response.headers["x-should-retry"] == "false"
    # Causeway has already made all attempts that a job may have.
    assert (len(script.calls()), len(requests)) == (5, 1)


def test_repeatedly_broken_answers_are_a_bad_gateway(client, script, requests):
    script.answers({"text": '{"choices', "cut": True})
    error = raised(openai.InternalServerError, lambda: ask(client, script.model))
    assert (error.status_code, error.code) == (502, "upstream_error")
    assert (len(script.calls()), len(requests)) == (5, 1)


@pytest.mark.parametrize(
    ("status", "code"),
    [(401, "invalid_api_key"), (404, "model_not_found"), (429, "insufficient_quota"), (502, None)],
)
def test_a_fault_of_the_upstream_delays_the_answer(client, script, requests, status, code):
    script.answers(refusal(status, code), {"json": chat("at last")})
    assert ask(client, script.model).choices[0].message.content == "at last"
    assert (len(script.calls()), len(requests)) == (2, 1)


def test_a_passing_failure_is_hidden(client, script, requests):
    script.answers(refusal(503), {"text": "{", "cut": True}, {"json": chat("at last")})
    assert ask(client, script.model).choices[0].message.content == "at last"
    assert (len(script.calls()), len(requests)) == (3, 1)


def fill(client, script):
    """Fills Cleo's queue: one job runs, and one waits."""
    script.answers({"hold": True, "json": chat("one")}, {"json": chat("more")})
    for running in (1, 1):
        raw = ask(
            client.with_raw_response, script.model, extra_headers={"prefer": "respond-async"}
        )
        assert raw.status_code == 202
        script.calls(running)


def test_a_full_queue_is_a_rate_limit_error(connect, script, requests):
    client = connect("cleo", max_retries=0)
    fill(client, script)
    error = raised(openai.RateLimitError, lambda: ask(client, script.model))
    assert error.code == "queue_full"
    assert 1 <= int(error.response.headers["retry-after"]) <= 120
    assert len(requests) == 3
    script.release()
    script.calls(2)


def test_a_call_refused_by_a_full_queue_is_retried(connect, script, requests):
    # The queue gets room when the SDK retries for the first time.
    def seen(request):
        if len(requests) == 4:
            script.release()

    client = connect("cleo", seen=seen)
    fill(client, script)
    assert ask(client, script.model).choices[0].message.content == "more"
    tries = [one.headers["x-stainless-retry-count"] for one in requests[2:]]
    assert tries == [str(number) for number in range(len(tries))] and len(tries) >= 2


@pytest.mark.parametrize("ending", [{"cut": True}, {}], ids=["cut", "without an end"])
def test_a_broken_stream_raises(client, script, ending):
    script.answers({"events": [*says("one")[:-2], "hold"], **ending})
    stream = ask(client, script.model, stream=True)
    texts = (one.choices[0].delta.content for one in stream)
    assert next(text for text in texts if text) == "one"
    script.release()
    raised(openai.APIError, lambda: list(texts))


def test_an_error_in_a_stream_is_raised(client, script):
    broken = {"error": {"message": "out of memory", "type": "server_error", "code": None}}
    script.answers({"events": [chunk({"content": "one"}), broken]})
    raised(openai.APIError, lambda: list(ask(client, script.model, stream=True)))


def test_an_unstarted_broken_stream_is_retried(client, script):
    script.answers({"events": [], "cut": True}, {"events": says("one")})
    stream = ask(client, script.model, stream=True)
    assert "".join(one.choices[0].delta.content or "" for one in stream) == "one"
    assert len(script.calls()) == 2
