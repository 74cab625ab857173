"""Replaces two API processes and two workers, one after another by SIGTERM, under load; run.sh calls it.

A balancer of TCP connections stands before the APIs and asks each /readyz every 250 ms, as load balancers do. Every
client counts as failed whatever it would have to explain to its user.
"""

import argparse
import asyncio
import collections
import contextlib
import datetime
import json
import os
import pathlib
import platform
import signal
import socket
import subprocess
import sys
import tempfile
import time

import aiohttp
import openai
from aiohttp import web

HERE = pathlib.Path(__file__).resolve().parent
PROBE_S = 0.25  # how often the balancer looks at each API
STREAM_S = 8
START_S = 20  # longest that a process may take to serve
SETTLE_S = 3  # between two replacements


def arguments():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--causeway", required=True, type=pathlib.Path)
    parser.add_argument("--drain", type=int, default=15)
    parser.add_argument("--jobs", type=int, default=40, help="a second")
    parser.add_argument("--calls", type=int, default=20, help="SDK calls at once")
    parser.add_argument("--streams", type=int, default=20, help="SDK streams at once")
    parser.add_argument("--readers", type=int, default=10, help="WebSockets, event streams and long polls, each")
    parser.add_argument("--out", default=HERE / "RESULTS.md", type=lambda text: text and pathlib.Path(text))
    return parser.parse_args()


class Upstream:
    """An OpenAI-compatible server that counts how often it is called for each prompt."""

    def __init__(self):
        self.seen = collections.Counter()

    async def chat(self, request):
        body = await request.json()
        prompt = body["messages"][-1]["content"]
        self.seen[prompt] += 1
        if not body.get("stream"):
            await asyncio.sleep(1.5 if prompt.startswith("call") else 0.3)
            message = {"role": "assistant", "content": prompt}
            choice = {"index": 0, "message": message, "finish_reason": "stop"}
            return web.json_response({"id": "c", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice]})
        answer = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await answer.prepare(request)
        for number in range(STREAM_S * 4 + 1):
            last = number == STREAM_S * 4
            delta = {} if last else {"content": f"{number} "}
            choice = {"index": 0, "delta": delta, "finish_reason": "stop" if last else None}
            chunk = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [choice]}
            await answer.write(f"data: {json.dumps(chunk)}\n\n".encode())
            await asyncio.sleep(0 if last else 0.25)
        await answer.write(b"data: [DONE]\n\n")
        return answer

    async def start(self):
        app = web.Application()
        app.router.add_post("/v1/chat/completions", self.chat)
        app.router.add_get("/v1/models", lambda _: web.json_response({"object": "list", "data": [{"id": "m", "object": "model"}]}))
        runner = web.AppRunner(app, handler_cancellation=True)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        return "http://127.0.0.1:%d/v1" % site._server.sockets[0].getsockname()[1]


class Balancer:
    """Passes each connection to the next API that was ready when it was last asked."""

    def __init__(self):
        self.ready, self.all, self.turn = [], [], 0

    async def probe(self, session):
        while True:
            ready = []
            for address in list(self.all):
                with contextlib.suppress(aiohttp.ClientError, OSError, asyncio.TimeoutError):
                    async with session.get(f"http://{address}/readyz", timeout=aiohttp.ClientTimeout(total=1)) as answer:
                        if answer.status == 200:
                            ready.append(address)
            self.ready = ready
            await asyncio.sleep(PROBE_S)

    async def carry(self, reader, writer):
        self.turn += 1
        host, port = self.ready[self.turn % len(self.ready)].rsplit(":", 1)
        far_reader, far_writer = await asyncio.open_connection(host, int(port))
        with contextlib.suppress(asyncio.CancelledError):  # at the end of the measurement
            await asyncio.gather(pipe(reader, far_writer), pipe(far_reader, writer))

    async def start(self):
        server = await asyncio.start_server(self.carry, "127.0.0.1", 0)
        return "http://127.0.0.1:%d" % server.sockets[0].getsockname()[1]


async def pipe(reader, writer):
    try:
        while piece := await reader.read(1 << 16):
            writer.write(piece)
            await writer.drain()
    except OSError:
        pass
    finally:
        with contextlib.suppress(OSError, RuntimeError):
            writer.close()


class Process:
    """One causeway process, with what it says in a file."""

    def __init__(self, args, log, *command):
        self.log = open(log, "w+b")
        environment = {**os.environ, "CAUSEWAY_DRAIN": f"{args.drain}s"}
        self.child = subprocess.Popen(
            [str(args.causeway), *command], stdout=self.log, stderr=subprocess.STDOUT, env=environment, start_new_session=True
        )

    async def says(self, wanted):
        deadline = time.monotonic() + START_S
        while time.monotonic() < deadline:
            text = pathlib.Path(self.log.name).read_text()
            if wanted in text:
                return text.split(wanted, 1)[1].split("\n", 1)[0].strip()
            await asyncio.sleep(0.05)
        sys.exit(f"{self.child.args} did not start: {text}")

    async def replaced(self):
        began = time.monotonic()
        self.child.send_signal(signal.SIGTERM)
        while self.child.poll() is None:
            await asyncio.sleep(0.05)
        return time.monotonic() - began


class Load:
    """The clients; each loops until `stopping`, and ends what it has begun."""

    def __init__(self, args, base, session):
        self.args, self.base, self.session = args, base, session
        self.stopping = asyncio.Event()
        self.done, self.failed = collections.Counter(), collections.defaultdict(list)
        self.number = 0

    def prompt(self, kind):
        self.number += 1
        return f"{kind} {self.number}"

    async def loop(self, kind, once):
        while not self.stopping.is_set():
            try:
                await once()
                self.done[kind] += 1
            except Exception as error:  # whatever a client meets is a finding
                self.failed[kind].append(f"{time.strftime('%X')} {type(error).__name__}: {str(error)[:200]}")
                await asyncio.sleep(0.2)

    def body(self, kind, **more):
        return {"model": "m", "messages": [{"role": "user", "content": self.prompt(kind)}], **more}

    async def submit(self, kind, **more):
        async with self.session.post(f"{self.base}/v1/jobs", json={"body": self.body(kind, **more)}) as answer:
            job = await answer.json()
            assert answer.status == 202, (answer.status, job)
            return job["id"]

    async def poll(self, kind="job"):
        job = await self.submit(kind)
        while True:
            async with self.session.get(f"{self.base}/v1/jobs/{job}?wait=20") as answer:
                told = await answer.json()
                assert answer.status == 200, (answer.status, told)
            if told["status"] not in ("queued", "scheduled", "running"):
                assert told["status"] == "succeeded", told
                assert told["attempts"] == 1, told
                return

    async def jobs(self):
        """Forty a second, whatever becomes of them."""
        tasks, next_at = set(), time.monotonic()
        while not self.stopping.is_set():
            task = asyncio.create_task(self.counted("jobs", self.poll))
            tasks.add(task)
            task.add_done_callback(tasks.discard)
            next_at += 1 / self.args.jobs
            await asyncio.sleep(max(0, next_at - time.monotonic()))
        await asyncio.gather(*tasks)

    async def counted(self, kind, once):
        try:
            await once()
            self.done[kind] += 1
        except Exception as error:
            self.failed[kind].append(f"{time.strftime('%X')} {type(error).__name__}: {str(error)[:200]}")

    async def call(self, client):
        body = self.body("call")
        answer = await client.chat.completions.create(**body)
        assert answer.choices[0].message.content == body["messages"][0]["content"], answer

    async def stream(self, client):
        text, ended = "", None
        async for chunk in await client.chat.completions.create(**self.body("stream", stream=True)):
            text += chunk.choices[0].delta.content or ""
            ended = chunk.choices[0].finish_reason or ended
        assert ended == "stop" and text == "".join(f"{number} " for number in range(STREAM_S * 4)), (ended, text)

    async def events(self):
        """Follows a stream as an EventSource does: it comes back with what it has."""
        job, last, text = await self.submit("events", stream=True), None, ""
        while True:
            headers = {"last-event-id": last} if last else {}
            async with self.session.get(f"{self.base}/v1/jobs/{job}/events", headers=headers) as answer:
                assert answer.status == 200, answer.status
                name = None
                async for line in answer.content:
                    field, _, value = line.decode().rstrip("\n").partition(": ")
                    name = value if field == "event" else name
                    last = value if field == "id" else last
                    if field == "data" and name == "output.delta":
                        text += json.loads(value)["text"]
                    if field == "data" and name.startswith("job.") and name not in ("job.queued", "job.started"):
                        assert name == "job.succeeded", name
                        assert text == "".join(f"{number} " for number in range(STREAM_S * 4)), text
                        return
            await asyncio.sleep(0.5)

    async def socket(self):
        """Follows a stream over WebSockets: after a close with 1012 it connects again, with `after`."""
        job, last, text = await self.submit("socket", stream=True), None, ""
        while True:
            async with self.session.ws_connect(f"{self.base}/v1/ws") as ws:
                follow = {"op": "follow", "job": job}
                await ws.send_json(follow if last is None else {**follow, "after": last})
                async for message in ws:
                    told = json.loads(message.data)
                    assert told["type"] != "error", told
                    if "seq" in told:
                        last = told["seq"]
                    if told["type"] == "output.delta":
                        text += told["data"]["text"]
                    if told["type"] == "job.succeeded":
                        assert text == "".join(f"{number} " for number in range(STREAM_S * 4)), text
                        return
                assert ws.close_code == 1012, ws.close_code
            await asyncio.sleep(0.1)

    def start(self, client):
        loops = [self.jobs()]
        loops += [self.loop("SDK calls", lambda: self.call(client)) for _ in range(self.args.calls)]
        loops += [self.loop("SDK streams", lambda: self.stream(client)) for _ in range(self.args.streams)]
        loops += [self.loop("event streams", self.events) for _ in range(self.args.readers)]
        loops += [self.loop("WebSockets", self.socket) for _ in range(self.args.readers)]
        loops += [self.loop("long polls", lambda: self.poll("call")) for _ in range(self.args.readers)]
        return [asyncio.create_task(loop) for loop in loops]


async def run(args, directory, port):
    upstream, balancer = Upstream(), Balancer()
    via_upstream, store = await upstream.start(), f"redis://127.0.0.1:{port}"
    logs, processes = iter(range(100)), []

    async def started(role):
        more = ["--bind", "127.0.0.1:0"] if role == "api" else ["--upstream", via_upstream]
        process = Process(args, f"{directory}/{next(logs)}-{role}.log", role, "--redis", store, *more)
        processes.append(process)
        if role == "api":
            process.address = await process.says("serving   http://")
            balancer.all.append(process.address)
        else:
            await process.says("worker    ")
        return process

    # Python's HTTP clients do not answer a `Connection: close` by trying another address; the balancer has all.
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), timeout=aiohttp.ClientTimeout(total=60)) as session:
        probing = asyncio.create_task(balancer.probe(session))
        try:
            now = {"api": [await started("api"), await started("api")], "worker": [await started("worker"), await started("worker")]}
            base = await balancer.start()
            while len(balancer.ready) < 2:
                await asyncio.sleep(0.05)
            async with openai.AsyncOpenAI(base_url=f"{base}/v1", api_key="none", max_retries=2, timeout=60) as client:
                load = Load(args, base, session)
                tasks = load.start(client)
                await asyncio.sleep(SETTLE_S)
                took = []
                for role in ("api", "api", "worker", "worker"):
                    old = now[role].pop(0)
                    now[role].append(await started(role))
                    took.append((role, round(await old.replaced(), 1)))
                    if role == "api":
                        balancer.all.remove(old.address)
                    print(f"replaced {took[-1]}, so far {dict(load.done)}, failed {dict(load.failed)}", flush=True)
                    await asyncio.sleep(SETTLE_S)
                load.stopping.set()
                await asyncio.gather(*tasks)
        finally:
            probing.cancel()
            for process in processes:
                process.child.kill()
                process.child.wait()
    repeated = {prompt: count for prompt, count in upstream.seen.items() if count > 1}
    return {"done": dict(load.done), "failed": dict(load.failed), "repeated": repeated, "took": took}


def main():
    args = arguments()
    args.causeway = args.causeway.resolve()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with tempfile.TemporaryDirectory() as directory:
        redis = subprocess.Popen(
            ["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", directory],
            stdout=subprocess.DEVNULL,
            start_new_session=True,
        )
        try:
            time.sleep(0.5)
            found = asyncio.run(run(args, directory, port))
        finally:
            redis.kill()
            redis.wait()
            if os.environ.get("KEEP_LOGS"):
                subprocess.run(["cp", "-r", directory, os.environ["KEEP_LOGS"]], check=False)
    print(json.dumps(found, indent=2))
    if args.out:
        write_results(args, found)
    sys.exit(1 if found["failed"] or found["repeated"] else 0)


def write_results(args, found):
    commit = subprocess.run(["git", "-C", HERE, "rev-parse", "--short", "HEAD"], check=True, capture_output=True, text=True).stdout
    failed = {kind: len(errors) for kind, errors in found["failed"].items()}
    lines = [
        "# Replacing every process under load: results",
        "",
        f"Two APIs and two workers over one Redis, replaced one after another by SIGTERM with `drain = {args.drain}s` and the",
        f"default `api.drain_pause`, behind a balancer that asks /readyz every {PROBE_S * 1000:.0f} ms. Written by",
        "`bash bench/deploy/run.sh` (`make deploy`).",
        "",
        f"- date: {datetime.datetime.now(datetime.timezone.utc):%Y-%m-%d %H:%M} UTC, commit {commit.strip()}",
        f"- machine: {os.cpu_count()} cores ({platform.machine()}), shared with the load and other work",
        "- each was replaced within: " + ", ".join(f"{role} {seconds} s" for role, seconds in found["took"]),
        f"- calls of the upstream that were repeated: {len(found['repeated'])}",
        "",
        "| clients | done | failed or cut |",
        "|---|--:|--:|",
        *(f"| {kind} | {count:,} | {failed.get(kind, 0)} |" for kind, count in sorted(found["done"].items())),
    ]
    args.out.write_text("\n".join(lines) + "\n")
    print(f"wrote {args.out}")


if __name__ == "__main__":
    main()
