"""Measures BullMQ, Causeway and redis-benchmark in turn, round by round; run.sh calls it."""

import argparse
import contextlib
import datetime
import json
import os
import pathlib
import platform
import socket
import statistics
import subprocess
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
ROWS = [
    ("enqueued per s", "enqueued_per_s", 0),
    ("drained per s", "drained_per_s", 0),
    ("Redis commands per job", "redis_commands_per_job", 1),
    ("Redis CPU per job, us", "redis_cpu_us_per_job", 1),
    ("of which to enqueue, us", "redis_cpu_us_per_enqueue", 1),
    ("Redis bytes per queued job", "redis_bytes_per_queued_job", 0),
    ("pick-up p50, ms", "pickup_p50_ms", 2),
    ("pick-up p99, ms", "pickup_p99_ms", 2),
]
# What a script of three commands costs: the yardstick for this machine.
YARDSTICK = "redis.call('SET',KEYS[1],ARGV[1]) redis.call('GET',KEYS[1]) return redis.call('DEL',KEYS[1])"


@contextlib.contextmanager
def redis():
    """A redis-server with an append-only file, on a free loopback port."""
    with tempfile.TemporaryDirectory() as directory, socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
        probe.close()
        options = ["--appendonly", "yes", "--appendfsync", "everysec", "--save", ""]
        server = subprocess.Popen(
            ["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--dir", directory, *options],
            stdout=subprocess.PIPE, text=True,
        )
        for line in server.stdout:
            if "Ready to accept connections" in line:
                break
        try:
            yield port
        finally:
            server.terminate()
            server.wait()


def output(*command):
    return subprocess.run([str(part) for part in command], check=True, capture_output=True, text=True).stdout


def bullmq(options, port):
    return json.loads(output("node", options.bullmq, port, options.jobs, options.bulk, 100))


def causeway(options, port, *more):
    """Enqueued in bulk and drained by one process, as BullMQ."""
    url = f"redis://127.0.0.1:{port}"
    return json.loads(output(options.causeway, "bench", "queue", "--json", "--store", url, *more))


def redis_benchmark(port, *arguments):
    """What redis-benchmark tells of one test: requests per second; latencies in ms: mean, min, p50, p95, p99, max."""
    told = output("redis-benchmark", "-p", port, "--csv", *arguments)
    return [float(cell.strip('"')) for cell in told.strip().splitlines()[-1].split(",")[-7:]]


def yardstick(port):
    """What redis-benchmark sees of this machine: the cost of a script, and the latency of a single SET."""
    sha = output("redis-cli", "-p", port, "SCRIPT", "LOAD", YARDSTICK).strip()
    output("redis-cli", "-p", port, "CONFIG", "RESETSTAT")
    per_s, *_ = redis_benchmark(port, "-n", 200000, "-P", 16, "EVALSHA", sha, 1, "key", "x" * 200)
    stats = output("redis-cli", "-p", port, "INFO", "commandstats")
    line = next(line for line in stats.splitlines() if line.startswith("cmdstat_evalsha:"))
    us = float(line.split("usec_per_call=")[1].split(",")[0])
    _, _, _, p50, _, p99, _ = redis_benchmark(port, "-n", 20000, "-c", 1, "SET", "key", "x" * 200)
    return {"per_s": per_s, "us": us, "set_p50_ms": p50, "set_p99_ms": p99}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--causeway", required=True)
    parser.add_argument("--bullmq", required=True)
    parser.add_argument("--jobs", type=int, default=50_000)
    parser.add_argument("--bulk", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", default=HERE / "RESULTS.md")
    options = parser.parse_args()
    load = os.getloadavg()[0]
    jobs = ["--jobs", options.jobs]
    kinds = {
        "BullMQ 6.7": lambda port: bullmq(options, port),
        "Causeway": lambda port: causeway(options, port, *jobs, "--bulk", options.bulk, "--batch", 100, "--workers", 4),
        "Causeway, 32 per step": lambda port: causeway(options, port, *jobs, "--bulk", 100, "--batch", 32),
        "one job per call": lambda port: causeway(options, port, "--jobs", options.jobs // 10, "--batch", 1),
    }
    tenants = {count: lambda port, count=count: causeway(
        options, port, "--jobs", 20_000, "--batch", 32, "--tenants", count,
    ) for count in (1, 500, 5000)}
    found = {kind: [] for kind in [*kinds, *tenants]}
    yardsticks = []
    for number in range(options.rounds):
        for kind, measure in (kinds | tenants).items():
            with redis() as port:
                found[kind].append(measure(port))
            print(f"round {number + 1}: {kind}: {json.dumps(found[kind][-1])}", flush=True)
        with redis() as port:
            yardsticks.append(yardstick(port))
        print(f"round {number + 1}: redis-benchmark: {yardsticks[-1]}", flush=True)

    def median(kind, key):
        return statistics.median(one[key] for one in found[kind])

    def machine(key):
        return statistics.median(one[key] for one in yardsticks)

    commit = output("git", "-C", HERE, "rev-parse", "--short", "HEAD").strip()
    lines = [
        "# Beside its peers: results",
        "",
        "Jobs that do nothing: body 200 bytes, result 300. Each median is over the rounds; the servers took turns.",
        "Pick-up: from the submission to an idle worker that begins the job, one job at a time.",
        "",
        "Written by `bash bench/peers/run.sh` (`make peers`).",
        "",
        f"- date: {datetime.datetime.now(datetime.timezone.utc):%Y-%m-%d %H:%M} UTC, commit {commit}",
        f"- machine: {os.cpu_count()} cores ({platform.machine()}), load average {load:.1f} at the start; "
        "Redis and the measuring process share the cores",
        f"- {output('redis-server', '--version').split(' sha')[0].strip()}, AOF each second; "
        f"node {output('node', '--version').strip()}",
        f"- {options.jobs} jobs, {options.rounds} rounds; BullMQ: addBulk of {options.bulk}, one process, concurrency 100; "
        f"Causeway: calls of {options.bulk} jobs, one process, 4 loops of up to 100 a step; "
        "32 per step: calls of 100, one loop",
        f"- redis-benchmark, EVALSHA of three commands, pipeline 16: {machine('per_s'):,.0f}/s, "
        f"{machine('us'):.1f} us each; a SET, one client: p50 {machine('set_p50_ms'):.2f}, p99 {machine('set_p99_ms'):.2f} ms",
        "",
        "| | " + " | ".join(kinds) + " | Causeway to BullMQ |",
        "|---|" + "--:|" * (len(kinds) + 1),
    ]
    for name, key, digits in ROWS:
        cells = [f"{median(kind, key):,.{digits}f}" for kind in kinds]
        ratios = [ours[key] / theirs[key] for ours, theirs in zip(found["Causeway"], found["BullMQ 6.7"])]
        lines.append(f"| {name} | " + " | ".join(cells) + f" | {statistics.median(ratios):.2f} |")
    lines += [
        "",
        "20,000 jobs of more tenants, calls of 32, 32 per step, from each tenant in turn:",
        "",
        "| tenants | Redis commands per job | Redis CPU per job, us | to one tenant | to 500 tenants |",
        "|--:|--:|--:|--:|--:|",
    ]
    for count in tenants:
        cpu = [one["redis_cpu_us_per_job"] for one in found[count]]
        ratio = [
            statistics.median(ours / theirs["redis_cpu_us_per_job"] for ours, theirs in zip(cpu, found[other]))
            for other in (1, 500)
        ]
        lines.append(
            f"| {count:,} | {median(count, 'redis_commands_per_job'):.1f} | {statistics.median(cpu):.1f} "
            f"| {ratio[0]:.2f} | {ratio[1]:.2f} |"
        )
    pathlib.Path(options.out).write_text("\n".join(lines) + "\n")


main()
