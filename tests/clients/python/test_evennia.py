"""The client of Evennia's contrib `llm`, which voices characters, in a process with Twisted's reactor."""

import json
import os
import subprocess
import sys
from pathlib import Path

from conftest import KEYS, URL, chat, refusal

# Only the client's module is loaded: its package needs a game.
ASK = """
import importlib.util, json, os, sys
from django.conf import settings
from evennia import settings_default
from twisted.internet import reactor

settings.configure(
    default_settings=settings_default,
    LLM_HOST=os.environ["CAUSEWAY_URL"],
    LLM_HEADERS={"Content-Type": ["application/json"], "Authorization": [os.environ["AUTHORIZATION"]]},
    LLM_REQUEST_BODY=json.loads(os.environ["REQUEST_BODY"]),
)
import evennia
from evennia.utils import logger

evennia.logger = logger
place = os.path.join(os.path.dirname(evennia.__file__), "contrib/rpg/llm/llm_client.py")
spec = importlib.util.spec_from_file_location("llm_client", place)
module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)


def ended(result):
    print(json.dumps(str(result)))
    reactor.stop()


reactor.callWhenRunning(lambda: module.LLMClient().get_response(sys.argv[1:]).addBoth(ended))
reactor.run()
"""

# The time-out of a character's answer.
PATIENCE_S = 30


def says(model, *prompt, **fields):
    """Returns the answer of a character, as its client reads it."""
    body = json.dumps({"model": model, "max_new_tokens": 250, "temperature": 0.7, **fields})
    told = {"AUTHORIZATION": f"Bearer {KEYS['ann']}", "REQUEST_BODY": body, "CAUSEWAY_URL": URL}
    command = [sys.executable, "-c", ASK, *prompt]
    place = Path(os.environ.get("TMPDIR", "/tmp"))
    ran = subprocess.run(
        command, env={**os.environ, **told}, cwd=place, timeout=PATIENCE_S, capture_output=True, text=True
    )
    return json.loads(ran.stdout.splitlines()[-1]) if ran.stdout else ran.stderr


def test_a_character_answers(script):
    script.answers({"json": chat("Welcome, traveller.")})
    assert says(script.model, "You are a villager.", "Ann: h\u00e9llo") == "Welcome, traveller."
    [body] = script.bodies()
    assert body["messages"] == [{"role": "user", "content": "You are a villager.\nAnn: h\u00e9llo"}]
    assert (body["max_tokens"], body["temperature"]) == (250, 0.7)


def test_a_character_reports_a_refusal(script):
    script.answers(refusal(400))
    assert says(script.model, "hi") == ""
