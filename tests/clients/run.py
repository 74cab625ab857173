"""Runs the tests of clients: real SDKs and frameworks against a real Causeway.

Starts a redis-server, `causeway simulate`, the scripted upstream, one API and one worker process, all
on free ports of the loopback; runs pytest and node's test runner over the same Causeway; and ends all
of these processes. The tests read from their environment:

    CAUSEWAY_URL    the address            UPSTREAM_URL   the scripted upstream
    KEYS            the tenants' keys by name, as JSON
    WEBHOOK_SECRET  the secret that signs webhook events

    run.py BINARY VENV NODE_DIR [NAME]       NAME selects tests, as in pytest and node
    run.py BINARY VENV NODE_DIR --browser    only the test with a browser
"""

import base64
import hashlib
import json
import os
import re
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

HERE = Path(__file__).parent

# The time-out of the start and of the end of a process.
PATIENCE_S = 30

# Ann has no limits, Bob has rate limits, Cleo and Dan may have one running and one waiting job; Eve has
# a webhook receiver.
TENANTS = {
    "ann": "",
    "bob": "requests_per_minute = 600\ntokens_per_minute = 60000",
    "cleo": "max_running = 1\nmax_queued = 1",
    "dan": "max_running = 1\nmax_queued = 1",
    "eve": 'webhook_url = "{upstream}/hooks/eve"',
}

class Processes:
    """The started processes, which end with this context."""

    def __init__(self, place):
        self.place, self.running = place, []

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for process in reversed(self.running):
            process.send_signal(signal.SIGTERM)
        for process in reversed(self.running):
            try:
                process.wait(PATIENCE_S)
            except subprocess.TimeoutExpired:
                process.kill()

    def start(self, name, command, ready):
        """Starts `command`; returns the part of its output that `ready` matches."""
        log = self.place / f"{name}.log"
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=self.place
        )
        self.running.append(process)
        matched, found = threading.Event(), []

        def read():
            with log.open("w") as written:
                for line in process.stdout:
                    written.write(line)
                    written.flush()
                    if not found and (match := re.search(ready, line)):
                        found.append(match.group(match.lastindex or 0))
                        matched.set()
            matched.set()

        threading.Thread(target=read, daemon=True).start()
        if not matched.wait(PATIENCE_S) or not found:
            sys.exit(f"{name} is not ready:\n{log.read_text()}")
        return found[0]


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def configuration(redis, upstream, simulated, keys):
    text = f"""
bind = "127.0.0.1:0"
redis = "{redis}"
upstream = "{upstream}/v1"
lease = "5s"

[log]
filter = "info,causeway_api=debug,causeway_worker=debug"

[retry]
base = "10ms"
max = "50ms"

[webhooks]
secret_env = ["WEBHOOK_SECRET"]
allow = ["127.0.0.1"]
retry_base = "10ms"

[[lane]]
name = "default"

[[lane]]
name = "simulated"
models = ["simulated"]
upstream = "{simulated}"

[[lane]]
name = "narrow"
models = ["narrow-python", "narrow-node"]
max_running = 1

[[lane]]
name = "native"
models = ["native-python", "native-node"]
upstream = "{upstream}/native/v1"
"""
    for name, bounds in TENANTS.items():
        digest = hashlib.sha256(keys[name].encode()).hexdigest()
        bounds = bounds.format(upstream=upstream)
        text += f'\n[[tenant]]\nid = "{name}"\nkey_sha256 = ["{digest}"]\n{bounds}\n'
    return text


def serve(processes, binary):
    """Starts all processes; returns the environment of the tests."""
    place, port = processes.place, free_port()
    redis = ["redis-server", "--bind", "127.0.0.1", "--port", str(port), "--save", ""]
    processes.start("redis", redis, r"Ready to accept connections")
    upstream = [sys.executable, "-u", str(HERE / "upstream.py")]
    upstream = processes.start("upstream", upstream, r"serving (http\S+)")
    simulate = [binary, "simulate", "--port", "0", "--first-token", "5ms"]
    simulate += ["--tokens-per-second", "1000"]
    simulated = processes.start("simulate", simulate, r"serving +(http\S+)")
    keys = {name: f"cw_{secrets.token_hex(16)}" for name in TENANTS}
    secret = base64.b64encode(secrets.token_bytes(32)).decode()
    os.environ["WEBHOOK_SECRET"] = f"whsec_{secret}"
    config = place / "causeway.toml"
    config.write_text(configuration(f"redis://127.0.0.1:{port}", upstream, simulated, keys))
    url = processes.start("api", [binary, "api", "--config", str(config)], r"serving +(http\S+)")
    processes.start("worker", [binary, "worker", "--config", str(config)], r"^  worker ")
    environment = {"CAUSEWAY_URL": url, "UPSTREAM_URL": upstream}
    return {**os.environ, **environment, "KEYS": json.dumps(keys), "PYTHONDONTWRITEBYTECODE": "1"}


def main(binary, venv, node, *names):
    # A signal must end the started processes too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("the tests of clients were stopped"))
    python = [f"{venv}/bin/python", "-m", "pytest", "--quiet", "-p", "no:cacheprovider", "-p", "no:warnings"]
    python += [str(HERE / "python"), *(("-k", names[0]) if names else ())]
    tests = sorted(str(file) for file in Path(node).glob("*.test.mjs"))
    picked = [f"--test-name-pattern={names[0]}"] if names else []
    javascript = ["node", "--test", "--test-reporter=spec", *picked, *tests]
    with tempfile.TemporaryDirectory() as place, Processes(Path(place)) as processes:
        environment = serve(processes, str(Path(binary).resolve()))
        commands = (python, javascript)
        if names[:1] == ("--browser",):
            names, commands = (), (["node", "--test", "--test-reporter=spec", f"{node}/browser.mjs"],)
        ended = [subprocess.run(command, env=environment).returncode for command in commands]
        failed = any(code not in (0, 5) if names else code for code in ended)
        if failed:
            for name in ("api", "worker"):
                lines = (Path(place) / f"{name}.log").read_text().splitlines()[-40:]
                print(f"\n== the last lines of {name}", *lines, sep="\n")
    sys.exit(int(failed))


if __name__ == "__main__":
    main(*sys.argv[1:])
