"""Silent calls over a lossy network: how many does the worker's TCP give up, though the upstream lives?

Each run has two network namespaces with a veth pair between them. In one an upstream takes each call, says
nothing for --silence seconds, and answers. In the other `causeway up` runs all calls at once. Both ends of
the pair drop a share of the packets that they send. A call is aborted when its connection ends before the
upstream has answered: it is retried, and paid again. Nothing outside the namespaces is touched.

Needs root, iproute2, and a kernel with sch_netem or cls_bpf.
"""

import argparse
import asyncio
import contextlib
import datetime
import json
import os
import pathlib
import platform
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from concurrent import futures

UPSTREAM, WORKER = "10.77.0.1", "10.77.0.2"
PORT, API = 9101, 4004
ANSWER = json.dumps({
    "id": "c", "object": "chat.completion", "created": 1, "model": "m",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "fine"}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2},
})
ENDED = {"succeeded", "failed", "cancelled", "expired"}
# How much longer than the silence a run may take: for aborted calls, which are made again.
GRACE_S = 240


def run(*command):
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def drop(namespace, device, share):
    """Lets `device` lose `share` of the packets that it sends."""
    tc = ["ip", "netns", "exec", namespace, "tc"]
    netem = [*tc, "qdisc", "add", "dev", device, "root", "netem", "loss", f"{share:%}"]
    if subprocess.run(netem, capture_output=True).returncode == 0:
        return "sch_netem"
    # A classic BPF filter: load a random word (SKF_AD_RANDOM), and return TC_ACT_SHOT or TC_ACT_OK.
    least = int(share * 2**32)
    code = f"4,32 0 0 4294963256,53 1 0 {least},6 0 0 2,6 0 0 0"
    run(*tc, "qdisc", "add", "dev", device, "clsact")
    run(*tc, "filter", "add", "dev", device, "egress", "bpf", "direct-action", "bytecode", code)
    return "cls_bpf"


class Network:
    """Two namespaces with a lossy pair of devices between them."""

    def __init__(self, name, share):
        self.share, self.tag = share, f"cw{os.getpid() % 10000}{name}"
        self.names = [f"{self.tag}u", f"{self.tag}w"]

    def __enter__(self):
        devices = self.names
        for namespace in self.names:
            run("ip", "netns", "add", namespace)
        run("ip", "link", "add", devices[0], "netns", self.names[0],
            "type", "veth", "peer", "name", devices[1], "netns", self.names[1])
        for namespace, device, address in zip(self.names, devices, (UPSTREAM, WORKER)):
            inside = ["ip", "-n", namespace]
            run(*inside, "addr", "add", f"{address}/24", "dev", device)
            run(*inside, "link", "set", "lo", "up")
            run(*inside, "link", "set", device, "up")
            self.how = drop(namespace, device, self.share)
        return self

    def __exit__(self, *_):
        for namespace in self.names:
            subprocess.run(["ip", "netns", "del", namespace], capture_output=True)

    def start(self, side, command, **more):
        namespace = self.names[side]
        environment = {"PATH": os.environ["PATH"]}
        return subprocess.Popen(["ip", "netns", "exec", namespace, *command], env=environment, **more)


async def upstream(silence):
    """Answers each call after `silence` seconds; counts calls, and those whose connection ended before."""
    counts = {"calls": 0, "answered": 0, "aborted": 0}

    async def serve(reader, writer):
        while head := await reader.readuntil(b"\r\n\r\n"):
            length = next((line.split(b":")[1] for line in head.lower().split(b"\r\n")
                           if line.startswith(b"content-length:")), b"0")
            await reader.readexactly(int(length))
            if not head.startswith(b"POST"):
                writer.write(b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n")
                continue
            counts["calls"] += 1
            gone = asyncio.ensure_future(reader.read(1))
            done, _ = await asyncio.wait([gone], timeout=silence)
            if done:
                gone.exception()
                counts["aborted"] += 1
                return
            gone.cancel()
            counts["answered"] += 1
            writer.write(f"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nconnection: close\r\n"
                         f"content-length: {len(ANSWER)}\r\n\r\n{ANSWER}".encode())
            await writer.drain()
            return

    async def connection(reader, writer):
        try:
            await serve(reader, writer)
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    # The upstream's own keepalive is off: only the worker's TCP is tried.
    server = await asyncio.start_server(connection, UPSTREAM, PORT, backlog=4096)
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    async with server:
        await stop.wait()
    print(json.dumps(counts))


def ask(path, body=None):
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(f"http://127.0.0.1:{API}{path}", data, {"content-type": "application/json"})
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.loads(answer.read())


def client(calls, silence):
    """Submits the calls and waits until all have ended; prints their states and attempts."""
    for _ in range(600):
        try:
            ask("/readyz")
            break
        except OSError:
            time.sleep(0.1)
    body = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}
    jobs = [ask("/v1/jobs", {"body": body})["id"] for _ in range(calls)]
    until, states, attempts, errors = time.time() + silence + GRACE_S, {}, 0, {}
    for job in jobs:
        while True:
            seen = ask(f"/v1/jobs/{job}")
            if seen["status"] in ENDED or time.time() > until:
                break
            time.sleep(0.5)
        states[seen["status"]] = states.get(seen["status"], 0) + 1
        for error in seen.get("errors") or []:
            words = error.get("message") or error.get("code")
            errors[words] = errors.get(words, 0) + 1
    print(json.dumps({"states": states, "errors": errors}))


def measure(network, binary, options):
    """One run; returns what the upstream and the client counted."""
    me = [sys.executable, os.path.abspath(__file__)]
    size = ["--calls", str(options.calls), "--silence", str(options.silence)]
    log = tempfile.TemporaryFile("w+")
    with tempfile.NamedTemporaryFile("w", suffix=".toml") as config:
        bound = options.silence + 100
        config.write(f'concurrency = {options.calls}\n[timeouts]\nfirst_byte = {bound}\ntotal = {bound}\n')
        config.flush()
        serving = network.start(0, [*me, "--role", "upstream", *size], stdout=subprocess.PIPE, text=True)
        time.sleep(1)
        causeway = network.start(1, [
            binary, "up", "--config", config.name, "--upstream", f"http://{UPSTREAM}:{PORT}/v1",
        ], stdout=subprocess.DEVNULL, stderr=log)
        asking = network.start(1, [*me, "--role", "client", *size], stdout=subprocess.PIPE, text=True)
        asked = json.loads(asking.communicate()[0])
        causeway.terminate()
        causeway.wait()
        serving.terminate()
        served = json.loads(serving.communicate()[0])
    return {**served, **asked}


def rows(options):
    binaries = [("before", options.before)] if options.before else []
    binaries.append(("now", options.causeway))
    runs = [(name, binary, share) for name, binary in binaries for share in options.loss]
    with contextlib.ExitStack() as stack, futures.ThreadPoolExecutor(len(runs)) as pool:
        networks = [stack.enter_context(Network(str(index), share)) for index, (_, _, share) in enumerate(runs)]
        how = networks[0].how
        results = pool.map(lambda pair: measure(pair[0], pair[1][1], options), zip(networks, runs))
        return how, [(name, share, result) for (name, _, share), result in zip(runs, results)]


def text(options, how, measured):
    commit = run("git", "rev-parse", "--short", "HEAD").strip()
    date = datetime.datetime.now(datetime.timezone.utc)
    lines = [
        "# Silent calls over a lossy network: results", "",
        f"{options.calls} calls at once to an upstream that is silent for {options.silence:g} s and then answers, over a pair of",
        "devices that loses packets in both directions. An aborted call is one whose connection the worker's TCP",
        "gave up although the upstream lived: it was made again, and would have been paid again.", "",
        "Written by `bash bench/lossy/run.sh` (`make lossy`).", "",
        f"- date: {date:%Y-%m-%d %H:%M} UTC, commit {commit}",
        f"- machine: {os.cpu_count()} cores ({platform.machine()}), {platform.system()} {platform.release()}, loss by {how}", "",
        "| binary | packets lost | calls | aborted | succeeded jobs | other ends |", "|---|--:|--:|--:|--:|---|",
    ]
    for name, share, result in measured:
        states = dict(result["states"])
        good = states.pop("succeeded", 0)
        lines.append(f"| {name} | {share:.1%} | {result['calls']:,} | {result['aborted']} | {good} | {states or 'none'} |")
    return "\n".join(lines) + "\n"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--causeway", help="the binary")
    parser.add_argument("--before", help="an older binary to measure beside it")
    parser.add_argument("--calls", type=int, default=400)
    parser.add_argument("--silence", type=float, default=100, help="seconds")
    parser.add_argument("--loss", type=lambda text: [float(share) for share in text.split(",")],
                        default=[0.001, 0.01], help="shares, by default 0.001,0.01")
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path(__file__).with_name("RESULTS.md"))
    parser.add_argument("--role", choices=["upstream", "client"], help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.role == "upstream":
        asyncio.run(upstream(options.silence))
    elif options.role == "client":
        client(options.calls, options.silence)
    elif os.geteuid() != 0:
        raise SystemExit("network namespaces need root: run it as root")
    else:
        how, measured = rows(options)
        options.out.write_text(text(options, how, measured))
        print(options.out.read_text())
        for name, share, result in measured:
            print(name, share, result)
        is_bad = any(result["aborted"] for name, _, result in measured if name == "now")
        raise SystemExit(1 if is_bad else 0)


if __name__ == "__main__":
    main()
