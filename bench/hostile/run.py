"""Loads one API process with what strangers may do, and watches its memory and an honest client; run.sh calls it."""

import argparse
import asyncio
import contextlib
import datetime
import json
import multiprocessing
import os
import pathlib
import platform
import random
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "gateway"))
from run import redis, read_until, rss_kb, started  # the servers of the gateway's measurement

HERE = pathlib.Path(__file__).resolve().parent
HEAD = b"POST /v1/jobs HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
LETTERS = "0123456789abcdefghjkmnpqrstvwxyz"


def arguments():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--causeway", required=True, type=pathlib.Path)
    parser.add_argument("--idle", type=int, default=10_000)
    parser.add_argument("--dribbling", type=int, default=1_000)
    parser.add_argument("--bodies", type=int, default=500)
    parser.add_argument("--body-bytes", type=int, default=20 << 20)
    parser.add_argument("--seconds", type=int, default=30)
    parser.add_argument("--ids", type=int, default=1_000_000)
    parser.add_argument("--out", default=HERE / "RESULTS.md", type=lambda text: text and pathlib.Path(text))
    return parser.parse_args()


def honest(port, path):
    """Submits a job each 50 ms, over a connection of its own as a new client does; writes what each call took, in ms."""
    body = b'{"body":{"model":"m","messages":[{"role":"user","content":"hello"}]}}'
    request = HEAD + b"connection: close\r\ncontent-length: %d\r\n\r\n" % len(body) + body
    with open(path, "w", buffering=1) as file:
        while True:
            began = time.monotonic()
            try:
                with socket.create_connection(("127.0.0.1", port), 10) as client:
                    client.settimeout(10)
                    client.sendall(request)
                    assert client.recv(4096).startswith(b"HTTP/1.1 202")
                print((time.monotonic() - began) * 1000, file=file)
            except (OSError, AssertionError):
                print("failed", file=file)
            time.sleep(0.05)


class Watch:
    """The memory of the API, and the calls of an honest client, since the last `taken`."""

    def __init__(self, process, path):
        self.process, self.path = process, path
        self.peak_kb, self.seen = 0, 0

    async def memory(self):
        while True:
            self.peak_kb = max(self.peak_kb, rss_kb(self.process))
            await asyncio.sleep(0.1)

    def taken(self, name):
        lines = pathlib.Path(self.path).read_text().split()[self.seen :]
        self.seen += len(lines)
        took = sorted(float(line) for line in lines if line != "failed") or [float("inf")]
        found = {
            "kind": name,
            "peak_mb": round(self.peak_kb / 1000),
            "honest": len(lines),
            "failed": lines.count("failed"),
            "p50_ms": round(statistics.median(took), 1),
            "p99_ms": round(took[int(len(took) * 0.99)], 1),
        }
        self.peak_kb = 0
        print(json.dumps(found), flush=True)
        return found


async def connect(port):
    for _ in range(100):
        with contextlib.suppress(OSError):
            return await asyncio.open_connection("127.0.0.1", port)
        await asyncio.sleep(0.1)
    sys.exit("no connection to the API")


async def idle(port, until):
    """Sends nothing, and comes back when it is closed."""
    while time.monotonic() < until:
        reader, writer = await connect(port)
        with contextlib.suppress(OSError, asyncio.TimeoutError):
            await asyncio.wait_for(reader.read(1), until - time.monotonic())
        writer.close()


async def dribble(port, until, start):
    """Sends `start`, then a byte a second."""
    while time.monotonic() < until:
        _, writer = await connect(port)
        with contextlib.suppress(OSError):
            writer.write(start)
            while time.monotonic() < until and not writer.transport.is_closing():
                writer.write(b"x")
                await writer.drain()
                await asyncio.sleep(1)
        writer.close()


async def body(port, until, length, counts):
    """Sends a body that is no job as fast as it is taken, again and again."""
    piece = b" " * (1 << 16)
    while time.monotonic() < until:
        reader, writer = await connect(port)
        with contextlib.suppress(OSError):
            writer.write(HEAD + b"content-length: %d\r\n\r\n" % length)
            sent = 0
            while sent < length and time.monotonic() < until + 10:
                writer.write(piece[: length - sent])
                sent += len(piece)
                await writer.drain()
                if reader.at_eof() or reader._buffer:
                    break
            answer = await reader.read(4096)
            counts[answer[9:12].decode()] = counts.get(answer[9:12].decode(), 0) + 1
        writer.close()


async def made_up(port, share, count):
    """Asks for jobs that never were, each in another shard."""
    draw = random.Random(share)
    reader, writer = await connect(port)
    for number in range(count):
        name = "".join(draw.choices(LETTERS, k=26))
        path = f"/v1/jobs/job_x{share}-{number // 60000}_{number % 60000}_0{name[1:]}"
        writer.write(f"GET {path} HTTP/1.1\r\nhost: localhost\r\n\r\n".encode())
        head = await reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 404"), head
        await reader.readexactly(int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0]))
    writer.close()


async def run(args, process, port, path):
    watch, found, counts = Watch(process, path), [], {}
    watching = asyncio.create_task(watch.memory())
    await asyncio.sleep(5)
    found.append(watch.taken("before"))
    until = time.monotonic() + args.seconds
    start = HEAD + b"x-long: " + b"x" * 60_000
    hostile = [idle(port, until) for _ in range(args.idle)]
    hostile += [dribble(port, until, start) for _ in range(args.dribbling // 2)]
    unfinished = HEAD + b"content-length: %d\r\n\r\n" % args.body_bytes
    hostile += [dribble(port, until, unfinished) for _ in range(args.dribbling - args.dribbling // 2)]
    hostile += [body(port, until, args.body_bytes, counts) for _ in range(args.bodies)]
    await asyncio.gather(*hostile)
    found.append(watch.taken(f"{args.idle:,} idle, {args.dribbling:,} dribbling, {args.bodies} maximal bodies"))
    print("maximal bodies were answered", counts, flush=True)
    await asyncio.sleep(10)
    watch.taken("recovering")
    await asyncio.sleep(5)
    found.append(watch.taken("15 s later"))
    shares = 8
    await asyncio.gather(*(made_up(port, share, args.ids // shares) for share in range(shares)))
    found.append(watch.taken(f"{args.ids:,} made-up ids"))
    watching.cancel()
    return found, counts


def main():
    args = arguments()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    with redis() as (_, store):
        command = [args.causeway, "api", "--bind", "127.0.0.1:0", "--redis", f"redis://127.0.0.1:{store}"]
        with started(command) as process:
            port = int(read_until(process, "serving   http://").rsplit(":", 1)[1])
            with tempfile.NamedTemporaryFile() as file:
                # A process of its own: the load keeps this one busy.
                client = multiprocessing.get_context("spawn").Process(target=honest, args=(port, file.name), daemon=True)
                client.start()
                found, counts = asyncio.run(run(args, process, port, file.name))
                client.kill()
    if args.out:
        write_results(args, found, counts)


def write_results(args, found, counts):
    commit = subprocess.run(["git", "-C", HERE, "rev-parse", "--short", "HEAD"], check=True, capture_output=True, text=True).stdout
    lines = [
        "# Hostile load on one API process: results",
        "",
        f"{args.idle:,} idle connections, {args.dribbling:,} that send a byte a second (half within a head, half within a body), and",
        f"{args.bodies} clients that send bodies of {args.body_bytes >> 20} MiB one after another, for {args.seconds} s, all without a key.",
        "An honest client submits a job each 50 ms over a new connection. Both share the cores with the API.",
        "Written by `bash bench/hostile/run.sh` (`make hostile`).",
        "",
        f"- date: {datetime.datetime.now(datetime.timezone.utc):%Y-%m-%d %H:%M} UTC, commit {commit.strip()}",
        f"- machine: {os.cpu_count()} cores ({platform.machine()}), {platform.system()} {platform.release()}",
        f"- maximal bodies by status: {', '.join(f'{status or chr(45)}: {count}' for status, count in sorted(counts.items()))}",
        "",
        "| | memory of the API at most, MB | honest calls | failed | p50, ms | p99, ms |",
        "|---|--:|--:|--:|--:|--:|",
        *(
            f"| {one['kind']} | {one['peak_mb']} | {one['honest']} | {one['failed']} | {one['p50_ms']} | {one['p99_ms']} |"
            for one in found
        ),
    ]
    args.out.write_text("\n".join(lines) + "\n")
    print(f"wrote {args.out}")


if __name__ == "__main__":
    main()
