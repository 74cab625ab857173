"""Runs Experiment 4 against the baselines and Causeway, one after the other, and writes the results.

Every server runs on a free loopback port, is started fresh for each number of users, and is ended
by its process id. The numbers come from `causeway experiment`, the same client for all.
"""

import argparse
import contextlib
import datetime
import json
import os
import platform
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
PLOT = "comparison.svg"
CALL_S = 5
TIMEOUT_S = 30
START_S = 20  # longest that a server may take to say where it listens


def main():
    args = arguments()
    systems = {name: system for name, system in SYSTEMS.items() if not args.only or name in args.only}
    if not shutil.which("redis-server"):
        print("redis-server is not installed: Causeway on Redis is left out", file=sys.stderr)
        systems = {name: system for name, system in systems.items() if name not in ON_REDIS}
    machine = describe_machine(args)
    runs = [
        (title, start, users)
        for title, start, sizes in systems.values()
        for users in args.users
        if users in sizes
    ]
    rows = []
    with tempfile.TemporaryDirectory() as directory:
        for number, (title, start, users) in enumerate(runs):
            print(f"{title}, {users} users", flush=True)
            # The last run draws them all.
            plot = args.out / PLOT if number + 1 == len(runs) else None
            with start(args) as url:
                rows.append((title, users, experiment(args, title, users, url, Path(directory), plot)))
    write_results(args, machine, rows)


def arguments():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--causeway", required=True, type=Path, help="the release binary")
    parser.add_argument("--users", default=[10, 100, 1000, 10000], type=lambda text: [int(n) for n in text.split(",")])
    parser.add_argument("--only", default=[], type=lambda text: text.split(","), help="of " + ", ".join(SYSTEMS))
    parser.add_argument("--out", default=HERE, type=Path)
    args = parser.parse_args()
    args.causeway = args.causeway.resolve()
    args.out.mkdir(parents=True, exist_ok=True)
    return args


# The servers.


@contextlib.contextmanager
def started(command, **environment):
    """A process that prints where it listens; ended, by its id, when the block ends."""
    process = subprocess.Popen(
        [str(part) for part in command],
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        process.send_signal(signal.SIGKILL)  # nothing in it is to be kept
        process.wait()
        process.stdout.close()


def read_until(process, wanted):
    """The rest of the first line of output that holds `wanted`, after it."""
    deadline, text = time.monotonic() + START_S, ""
    while wanted not in text or "\n" not in text.split(wanted, 1)[1]:
        ready, _, _ = select.select([process.stdout], [], [], max(0, deadline - time.monotonic()))
        chunk = os.read(process.stdout.fileno(), 4096).decode() if ready else ""
        if not chunk:
            sys.exit(f"{process.args[0]} did not start: it said {text!r}")
        text += chunk
    return text.split(wanted, 1)[1].split("\n", 1)[0].strip()


def python_baseline(*command):
    @contextlib.contextmanager
    def start(_args):
        with started([sys.executable, HERE / command[0], "--port", 0, "--call", CALL_S, *command[1:]]) as process:
            yield "http://" + read_until(process, "http://")

    return start


def causeway_embedded(*flags):
    @contextlib.contextmanager
    def start(args):
        command = [args.causeway, "up", "--bind", "127.0.0.1:0", *flags]
        with started(command, CAUSEWAY_SIMULATED_CALL=str(CALL_S)) as process:
            yield "http://" + read_until(process, "serving   http://")

    return start


def causeway_redis(*flags):
    @contextlib.contextmanager
    def start(args):
        with redis() as store:
            api = [args.causeway, "api", "--bind", "127.0.0.1:0", "--redis", store]
            worker = [args.causeway, "worker", "--redis", store, "--simulate", *flags]
            with started(api) as api, started(worker, CAUSEWAY_SIMULATED_CALL=str(CALL_S)) as worker:
                url = "http://" + read_until(api, "serving   http://")
                read_until(worker, "worker  ")
                yield url

    return start


@contextlib.contextmanager
def redis():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with tempfile.TemporaryDirectory() as directory:
        command = ["redis-server", "--port", port, "--bind", "127.0.0.1", "--dir", directory]
        command += ["--appendonly", "yes", "--appendfsync", "everysec", "--save", ""]
        with started(command) as process:
            read_until(process, "Ready to accept connections")
            yield f"redis://127.0.0.1:{port}"


SMALL, LARGE = (10, 100, 1000), (10, 100, 1000, 10000)
WIDE = ("--concurrency", 10000)

# Each with its title, how it is started, and by how many users it is tried. Causeway is tried with its default of
# 256 calls at once, and as wide as the simulated model is.
SYSTEMS = {
    "single": ("HTTPServer, one request at a time", python_baseline("baseline_single.py"), SMALL),
    "threads-5": (
        "a thread per request, backlog 5 as written",
        python_baseline("baseline_threads.py", "--backlog", 5),
        SMALL,
    ),
    "threads-1024": (
        "a thread per request, backlog 1024",
        python_baseline("baseline_threads.py", "--backlog", 1024),
        SMALL,
    ),
    "embedded": ("Causeway, embedded queue", causeway_embedded(), LARGE),
    "embedded-wide": ("Causeway, embedded queue, --concurrency 10000", causeway_embedded(*WIDE), (1000, 10000)),
    "redis": ("Causeway on Redis, one API and one worker process", causeway_redis(), LARGE),
    "redis-wide": (
        "Causeway on Redis, one API and one worker process, --concurrency 10000",
        causeway_redis(*WIDE),
        (1000, 10000),
    ),
}
ON_REDIS = ("redis", "redis-wide")


# The experiment.


def experiment(args, title, users, url, directory, plot):
    earlier = sorted(directory.iterdir())
    report = directory / f"{len(earlier):02}.json"
    command = [args.causeway, "experiment", "--target", url, "--title", title]
    command += ["--users", users, "--timeout", TIMEOUT_S, "--json"]
    if plot:
        command += ["--plot", plot] + (["--beside", *earlier] if earlier else [])
    with report.open("w") as out:
        subprocess.run([str(part) for part in command], check=True, stdout=out)
    return json.loads(report.read_text())


# The results.


def describe_machine(args):
    version = subprocess.run([args.causeway, "--version"], capture_output=True, text=True, check=True).stdout.strip()
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=HERE, capture_output=True, text=True)
    lines = [
        f"date: {datetime.datetime.now(datetime.timezone.utc):%Y-%m-%d %H:%M} UTC",
        f"{version}, commit {commit.stdout.strip() or 'unknown'}, {args.causeway.parent.name} build",
        f"machine: {os.cpu_count()} cores ({platform.machine()}), {platform.system()} {platform.release()},"
        f" load average {os.getloadavg()[0]:.1f} at the start; servers, store and client share the cores",
        f"Python {platform.python_version()}",
    ]
    if shutil.which("redis-server"):
        redis_version = subprocess.run(["redis-server", "--version"], capture_output=True, text=True).stdout
        lines.append("Redis " + redis_version.split("v=")[1].split()[0] + ", AOF each second")
    return lines


def write_results(args, machine, rows):
    lines = [
        "# Experiment 4: results",
        "",
        f"N users each send one message at the same moment; the model's call takes {CALL_S} s (simulated); a user",
        f"gives up after {TIMEOUT_S} s. Waits are in seconds, of the users who were answered, from the common moment",
        "to the end of the answer; each user opens a connection of their own at that moment. Causeway makes 256 calls",
        "at once unless `--concurrency` is set. `accepted, no answer yet` is its answer after 25 s, with the job's id:",
        "the job goes on, and its answer can be fetched.",
        "",
        "Written by `bash bench/experiment4/run.sh` (`make experiment`); the servers are the files beside this one.",
        "",
        *[f"- {line}" for line in machine],
        "",
        "| server | users | completed | mean | p50 | p99 | max | time-outs | errors |",
        "|---|--:|--:|--:|--:|--:|--:|--:|---|",
    ]
    for title, users, report in rows:
        waits = report["wait_s"]
        waits = [f"{waits[key]:.2f}" for key in ("mean", "p50", "p99", "max")] if waits else ["-"] * 4
        errors = ", ".join(f"{count} {kind}" for kind, count in report["errors"].items()) or "0"
        cells = [title, f"{users:,}", f"{report['completed']:,}", *waits, f"{report['timed_out']:,}", errors]
        lines.append("| " + " | ".join(cells) + " |")
    lines += ["", f"![The share of users who are answered by a time]({PLOT})"]
    (args.out / "RESULTS.md").write_text("\n".join(lines) + "\n")
    print(f"wrote {args.out.name}/RESULTS.md")


if __name__ == "__main__":
    main()
