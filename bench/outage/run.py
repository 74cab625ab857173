#!/usr/bin/env python3
"""Takes a model away from 1,000 waiting and 100 running jobs, each time in another way, and gives it back.

Each case has a Causeway, a model and, for the store `redis`, a redis-server of its own; all cases of one length run
at the same time. The model is a raw socket server of this script. `dns` needs root: the Causeway gets a mount
namespace with its own /etc/hosts. A case passes when every job has succeeded, when none spent an attempt while the
lane was down, when at most one call at a time reached the model then, and when 50 jobs had ended 2 s after the first
answer.
"""

import argparse
import asyncio
import contextlib
import http.client
import json
import os
import pathlib
import platform
import shutil
import signal
import socket
import subprocess
import tempfile
import time

WAITING, RUNNING, CALL_S = 1000, 100, 0.5
# The lane is known to be down this long after the model went away: the time-outs below, and some.
SETTLING_S = 5.0
TIMEOUTS = {"CAUSEWAY_TIMEOUTS_CONNECT": "1s", "CAUSEWAY_TIMEOUTS_FIRST_BYTE": "2s"}
NAME = "model.outage.test"
COMPLETION = json.dumps({
    "id": "c", "object": "chat.completion", "created": 1, "model": "m",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "fine"}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2},
})


def response(status, body, content_type="application/json", extra=""):
    head = f"HTTP/1.1 {status}\r\ncontent-type: {content_type}\r\ncontent-length: {len(body)}\r\n{extra}\r\n"
    return (head + body).encode()


def error(message):
    return json.dumps({"error": {"message": message, "type": "server_error", "code": None}})


ANSWERS = {
    "500": response("500 Internal Server Error", error("out of order")),
    "503": response("503 Service Unavailable", error("loading")),
    "503 with a time": response("503 Service Unavailable", error("loading"), extra="retry-after: 3\r\n"),
    "401": response("401 Unauthorized", error("Incorrect API key provided")),
    "HTML": response("200 OK", "<html><title>Maintenance</title></html>", "text/html"),
    "cut": response("200 OK", COMPLETION)[:150],
}
MODES = ["refused", "dns", "black hole", *ANSWERS]


class Model:
    """Answers after CALL_S while it is there; `away` says how it is not."""

    def __init__(self, mode):
        self.mode, self.away, self.server, self.plug = mode, False, None, []
        self.calls, self.most_calls, self.seen, self.writers = 0, 0, [], set()

    async def start(self, port=0):
        self.server = await asyncio.start_server(self.serve, "127.0.0.1", port, reuse_address=True, backlog=1024)
        self.port = self.server.sockets[0].getsockname()[1]

    async def serve(self, reader, writer):
        self.writers.add(writer)
        with contextlib.suppress(OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).lower()
                length = int(head.split(b"content-length:")[1].split(b"\r\n")[0]) if b"content-length:" in head else 0
                await reader.readexactly(length)
                if not head.startswith(b"post"):
                    writer.write(response("404 Not Found", error("no such route")))
                    continue
                self.seen.append(time.monotonic())
                self.calls += 1
                self.most_calls = max(self.most_calls, self.calls)
                try:
                    await asyncio.sleep(CALL_S)
                    if self.away:
                        writer.write(ANSWERS.get(self.mode, b""))
                        if self.mode == "cut":
                            break
                    else:
                        writer.write(response("200 OK", COMPLETION))
                    await writer.drain()
                finally:
                    self.calls -= 1
        self.writers.discard(writer)
        writer.close()

    async def leave(self, hosts):
        self.away = True
        if self.mode == "dns":
            hosts.write_text("127.0.0.1 localhost\n")
        if self.mode in ("refused", "dns", "black hole"):
            self.server.close()
            for writer in list(self.writers):
                writer.transport.abort()
        if self.mode == "black hole":
            # A listener whose queue is full answers no SYN.
            plug = socket.create_server(("127.0.0.1", self.port), backlog=0)
            self.plug = [plug]
            for _ in range(4):
                one = socket.socket()
                one.setblocking(False)
                one.connect_ex(("127.0.0.1", self.port))
                self.plug.append(one)

    async def come_back(self, hosts):
        self.away = False
        for one in self.plug:
            one.close()
        if self.mode in ("refused", "dns", "black hole"):
            await self.start(self.port)
        if self.mode == "dns":
            hosts.write_text(f"127.0.0.1 localhost {NAME}\n")


GIVEN = set()


def free_port():
    """A free port. No two cases of a run get the same, although all start at once."""
    while True:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        if port not in GIVEN:
            GIVEN.add(port)
            return port


class Causeway:
    def __init__(self, binary, folder, host, model, store):
        self.port, self.children = free_port(), []
        argv = [binary, "up", "--bind", f"127.0.0.1:{self.port}", "--upstream", f"http://{host}:{model.port}/v1",
                "--concurrency", str(RUNNING)]
        if store == "redis":
            port = free_port()
            redis = ["redis-server", "--port", str(port), "--save", "", "--dir", str(folder), "--daemonize", "no"]
            self.children.append(subprocess.Popen(redis, stdout=subprocess.DEVNULL))
            argv += ["--redis", f"redis://127.0.0.1:{port}"]
            wait_for(lambda: socket.create_connection(("127.0.0.1", port), 1).close())
        if host == NAME:
            mounts = f"mount --bind {folder}/hosts /etc/hosts && mount --bind {folder}/resolv /etc/resolv.conf"
            argv = ["unshare", "--mount", "sh", "-c", f'{mounts} && exec "$@"', "sh", *argv]
        environment = {**os.environ, **TIMEOUTS, "TOKIO_WORKER_THREADS": "1"}
        self.log = open(folder / "log", "w")
        self.children.append(subprocess.Popen(argv, stdout=self.log, stderr=self.log, env=environment))
        wait_for(lambda: self.get("/readyz"))

    def request(self, method, path, body=None):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        connection.request(method, path, body and json.dumps(body), {"content-type": "application/json"})
        answer = connection.getresponse()
        read = answer.read()
        connection.close()
        if answer.status >= 400:
            raise OSError(f"{method} {path}: {answer.status} {read[:300]}")
        return read

    def get(self, path):
        return self.request("GET", path)

    def jobs(self):
        jobs, after = [], ""
        while True:
            page = json.loads(self.get(f"/v1/jobs?limit=1000{after}"))
            jobs += page["data"]
            if not page["has_more"]:
                return jobs
            after = f"&after={page['last_id']}"

    def ended(self):
        queue = json.loads(self.get("/v1/queue"))["lanes"][0]
        return WAITING + RUNNING - queue["queued"] - queue["running"]

    def stop(self):
        for child in reversed(self.children):
            child.send_signal(signal.SIGKILL)
            child.wait()
        self.log.close()


def wait_for(ready, seconds=30):
    until = time.monotonic() + seconds
    while True:
        try:
            return ready()
        except OSError:
            if time.monotonic() > until:
                raise
            time.sleep(0.05)


def attempts_spent(jobs):
    """How many attempts brought no answer and were charged to their jobs."""
    return sum(one["attempts"] - (one["status"] in ("succeeded", "running")) for one in jobs)


async def case(binary, mode, store, seconds):
    folder = pathlib.Path(tempfile.mkdtemp(prefix="outage-"))
    hosts = folder / "hosts"
    hosts.write_text(f"127.0.0.1 localhost {NAME}\n")
    (folder / "resolv").write_text("nameserver 127.0.0.1\noptions timeout:1 attempts:1\n")
    model = Model(mode)
    await model.start()
    causeway = await asyncio.to_thread(Causeway, binary, folder, NAME if mode == "dns" else "127.0.0.1", model, store)
    try:
        job = {"body": {"model": "m", "messages": [{"role": "user", "content": "x"}]}}
        await asyncio.to_thread(causeway.request, "POST", "/v1/jobs", {"jobs": [job] * (WAITING + RUNNING)})
        while len(model.seen) < RUNNING:
            await asyncio.sleep(0.01)
        await model.leave(hosts)
        await asyncio.sleep(SETTLING_S)
        model.most_calls = model.calls
        spent_before = attempts_spent(await asyncio.to_thread(causeway.jobs))
        await asyncio.sleep(seconds - SETTLING_S)
        most_calls, before = model.most_calls, len(model.seen)
        await model.come_back(hosts)
        back, ended_before = time.monotonic(), await asyncio.to_thread(causeway.ended)
        while len(model.seen) == before:
            await asyncio.sleep(0.005)
        first = time.monotonic() + CALL_S
        await asyncio.sleep(CALL_S + 2)
        soon = await asyncio.to_thread(causeway.ended) - ended_before
        until = time.monotonic() + 120
        while await asyncio.to_thread(causeway.ended) < WAITING + RUNNING and time.monotonic() < until:
            await asyncio.sleep(0.1)
        jobs = await asyncio.to_thread(causeway.jobs)
        good = sum(one["status"] == "succeeded" for one in jobs)
        failed = sum(one["status"] == "failed" for one in jobs)
        spent = attempts_spent(jobs) - spent_before
        passed = good == WAITING + RUNNING and spent == 0 and most_calls <= 1 and soon >= 50
        row = [mode, store, seconds, good, failed, spent, most_calls, f"{first - back:.1f}", soon]
        return [*row, "pass" if passed else "FAIL"]
    finally:
        causeway.stop()
        model.server.close()
        for writer in list(model.writers):
            writer.transport.abort()
        shutil.rmtree(folder, ignore_errors=True)


HEADINGS = ["model away by", "store", "for s", "succeeded", "failed", "attempts spent while down", "calls at once while down",
            "first answer after s", "ended 2 s later", "verdict"]


async def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--causeway", required=True)
    parser.add_argument("--seconds", type=int, nargs="*", default=[20, 180])
    parser.add_argument("--only", default=",".join(MODES))
    parser.add_argument("--stores", default="embedded,redis")
    parser.add_argument("--out", default=str(pathlib.Path(__file__).parent / "RESULTS.md"))
    options = parser.parse_args()
    binary = os.path.abspath(options.causeway)
    table = [HEADINGS, ["---"] * len(HEADINGS)]
    for seconds in options.seconds:
        cases = [case(binary, mode, store, seconds) for mode in options.only.split(",") for store in options.stores.split(",")]
        for done in asyncio.as_completed(cases):
            row = await done
            print(*row, sep="\t", flush=True)
            table.append(row)
    lines = ["| " + " | ".join(map(str, row)) + " |" for row in table]
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True).stdout.strip()
    about = f"`make outage` at {commit}, {time.strftime('%Y-%m-%d')}, {os.cpu_count()} cores, Python {platform.python_version()}."
    pathlib.Path(options.out).write_text(f"# A model that goes away\n\n{__doc__.strip()}\n\n{about}\n\n" + "\n".join(lines) + "\n")
    raise SystemExit(any(row[-1] == "FAIL" for row in table))


asyncio.run(main())
