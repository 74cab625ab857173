"""Measures the way through API, Redis and worker, and streams; run.sh calls it.

One redis-server, API, worker and upstream on free loopback ports, all of them and the load on the same
cores, fresh for each measurement and ended by their process ids.
"""

import argparse
import contextlib
import datetime
import json
import os
import pathlib
import platform
import select
import signal
import socket
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent
START_S = 20  # longest that a server may take to say where it listens
TOKENS_PER_S = 5
RAMP_S = 10
HERTZ = os.sysconf("SC_CLK_TCK")


def main():
    # Five processes share the cores: a second thread in each only wakes up to find nothing to do.
    os.environ.setdefault("TOKIO_WORKER_THREADS", "1")
    # Servers end with this process, also when it is told to end.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    args = arguments()
    load = os.getloadavg()[0]
    found = {}
    for name, (_, measure) in MEASUREMENTS.items():
        if not args.only or name in args.only:
            found[name] = measure(args)
            print(f"{name}: {json.dumps(found[name])}", flush=True)
    if args.out:
        write_results(args, load, found)


def arguments():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--causeway", required=True, type=pathlib.Path, help="the release binary")
    parser.add_argument("--seconds", type=int, default=20, help="of each measurement but the streams")
    parser.add_argument("--rate", type=int, default=200)
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument("--clients", type=int, default=10_000)
    parser.add_argument("--stream-seconds", type=int, default=60)
    parser.add_argument("--only", default=[], type=lambda text: text.split(","), help="of " + ", ".join(MEASUREMENTS))
    parser.add_argument("--out", default=HERE / "RESULTS.md", type=lambda text: text and pathlib.Path(text))
    args = parser.parse_args()
    args.causeway = args.causeway.resolve()
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
        process.kill()  # nothing in it is to be kept
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
            yield process, port


@contextlib.contextmanager
def system(args, upstream, concurrency, **environment):
    """API and worker over a Redis; the processes by name, and where the API is."""
    with redis() as (store, port):
        url = f"redis://127.0.0.1:{port}"
        api = [args.causeway, "api", "--bind", "127.0.0.1:0", "--redis", url]
        worker = [args.causeway, "worker", "--redis", url, "--concurrency", concurrency]
        worker += ["--upstream", upstream] if upstream else ["--simulate"]
        with started(api) as api, started(worker, **environment) as worker:
            via = "http://" + read_until(api, "serving   http://")
            read_until(worker, "worker  ")
            yield {"redis": store, "api": api, "worker": worker}, via, port


@contextlib.contextmanager
def upstream(args):
    """A simulated upstream that answers at once."""
    command = [args.causeway, "simulate", "--port", 0, "--first-token", 0, "--tokens-per-second", 1e9, "--tokens", 16]
    with started([*command, "--call", 0]) as process:
        yield process, "http://" + read_until(process, "serving   http://")


def cpu_s(process):
    """Seconds of processor time that a process has taken."""
    fields = pathlib.Path(f"/proc/{process.pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / HERTZ


def machine_s():
    """Seconds that all processors were busy, and that the host kept from them."""
    ticks = [int(field) for field in pathlib.Path("/proc/stat").read_text().splitlines()[0].split()[1:]]
    user, nice, system, _, _, irq, softirq, steal = ticks[:8]
    return (user + nice + system + irq + softirq) / HERTZ, steal / HERTZ


def not_ours(before, spent, seconds):
    """The share of the processors that others had meanwhile, or the host kept."""
    busy, stolen = (now - then for now, then in zip(machine_s(), before))
    return round((busy - spent + stolen) / seconds / os.cpu_count(), 2)


def rss_kb(process):
    status = pathlib.Path(f"/proc/{process.pid}/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0])


def commands(port):
    """What Redis has run, by name."""
    told = subprocess.run(
        ["redis-cli", "-p", str(port), "INFO", "commandstats"], check=True, capture_output=True, text=True
    ).stdout
    stats = {}
    for line in told.splitlines():
        if line.startswith("cmdstat_"):
            name, counts = line.removeprefix("cmdstat_").split(":")
            stats[name] = int(counts.split("calls=")[1].split(",")[0])
    return stats


# The measurements.


def bench(args, processes, *command):
    """The figures of `causeway bench`, and the processor time that each process took."""
    before, machine = {name: cpu_s(process) for name, process in processes.items()}, machine_s()
    began = os.times()
    command = [args.causeway, "bench", *command, "--json"]
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True)
    if not done.stdout:
        sys.exit(done.stderr)
    took = os.times()
    figures = json.loads(done.stdout)
    figures["cpu_s"] = {name: round(cpu_s(process) - before[name], 2) for name, process in processes.items()}
    load = took.children_user + took.children_system - began.children_user - began.children_system
    figures["cpu_s"]["load"] = round(load, 2)
    figures["not_ours"] = not_ours(machine, sum(figures["cpu_s"].values()), took.elapsed - began.elapsed)
    return figures


def gateway(*options):
    def measure(args):
        with upstream(args) as (simulated, direct), system(args, direct, 256) as (processes, via, port):
            saturate = "--saturate" in options
            how = ["--connections", args.connections] if saturate else ["--direct", direct, "--rate", args.rate]
            how += ["--via", via, "--seconds", args.seconds, *options]
            before = commands(port)
            figures = bench(args, {**processes, "upstream": simulated}, "gateway", *how)
            calls = figures["calls"] if saturate else figures["pairs"]
            after = commands(port)
            per_call = {name: round((after[name] - before.get(name, 0)) / calls, 2) for name in after}
            figures["redis_per_call"] = {name: count for name, count in per_call.items() if count >= 0.05}
            return figures

    return measure


def streams(args):
    simulated = {
        "CAUSEWAY_SIMULATED_STAMPS": "true",
        "CAUSEWAY_SIMULATED_TOKENS": str(args.stream_seconds * TOKENS_PER_S),
        "CAUSEWAY_SIMULATED_TOKENS_PER_SECOND": str(TOKENS_PER_S),
    }
    with system(args, None, args.clients, **simulated) as (processes, via, _):
        idle = {name: rss_kb(process) for name, process in processes.items()}
        before, machine = {name: cpu_s(process) for name, process in processes.items()}, machine_s()
        command = [args.causeway, "bench", "streams", "--url", via, "--clients", args.clients, "--ramp", RAMP_S, "--json"]
        command += ["--seconds", args.stream_seconds, "--tokens-per-second", TOKENS_PER_S]
        began = time.monotonic()
        load = subprocess.Popen([str(part) for part in command], stdout=subprocess.PIPE, text=True)
        # Half-way all of them are there.
        half = RAMP_S + args.stream_seconds / 2
        with contextlib.suppress(subprocess.TimeoutExpired):
            load.wait(max(0, half - (time.monotonic() - began)))
        busy = {name: rss_kb(process) for name, process in processes.items()}
        cpu = {name: cpu_s(process) - before[name] for name, process in processes.items()}
        cpu["load"] = cpu_s(load)
        others = not_ours(machine, sum(cpu.values()), half)
        told, _ = load.communicate()
        figures = json.loads(told)
        figures["rss_idle_kb"], figures["rss_busy_kb"] = idle, busy
        figures["api_kb_per_client"] = round((busy["api"] - idle["api"]) / args.clients, 1)
        figures["not_ours"] = others
        figures["cpu_share_until_half"] = {name: round(spent / half, 2) for name, spent in cpu.items()}
        return figures


MEASUREMENTS = {
    "paced": ("whole answers", gateway()),
    "paced_stream": ("first token of a stream", gateway("--stream")),
    "saturated": ("whole answers", gateway("--saturate")),
    "saturated_stream": ("streams of 16 tokens", gateway("--saturate", "--stream")),
    "streams": ("", streams),
}


# The results.


def output(*command):
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def write_results(args, load, found):
    commit = output("git", "-C", str(HERE), "rev-parse", "--short", "HEAD").strip()
    dirty = "" if not output("git", "-C", str(HERE), "status", "--porcelain", "-uno").strip() else " with changes"
    lines = [
        "# The way through Causeway: results",
        "",
        "A chat call through API, Redis and worker beside the same call to the upstream itself, which answers at once;",
        "and many clients that each read a stream. Redis, API, worker, upstream and load share the cores, each with one",
        "thread (`TOKIO_WORKER_THREADS=1`; with as many as cores they wake one another for nothing).",
        "",
        "Written by `bash bench/gateway/run.sh` (`make gateway`).",
        "",
        f"- date: {datetime.datetime.now(datetime.timezone.utc):%Y-%m-%d %H:%M} UTC, commit {commit}{dirty}",
        f"- machine: {os.cpu_count()} cores ({platform.machine()}), {platform.system()} {platform.release()}, "
        f"load average {load:.1f} at the start",
        f"- {output('redis-server', '--version').split(' sha')[0].strip()}, AOF each second",
        "- share of the processors that others had meanwhile, or the host kept: "
        + ", ".join(f"{name} {figures['not_ours']:.0%}" for name, figures in found.items()),
    ]
    paced = [name for name in ("paced", "paced_stream") if name in found]
    if paced:
        lines += [
            "",
            f"## Added latency, {args.rate} pairs of calls a second for {args.seconds} s",
            "",
            "| ms | direct p50 | p99 | through Causeway p50 | p99 | added p50 | p99 |",
            "|---|--:|--:|--:|--:|--:|--:|",
        ]
        for name in paced:
            keys = [f"{side}_{share}_ms" for side in ("direct", "via", "added") for share in ("p50", "p99")]
            cells = " | ".join(f"{found[name][key]:.2f}" for key in keys)
            lines.append(f"| {MEASUREMENTS[name][0]} | {cells} |")
        lines += ["", "The columns to the right are percentiles of the differences within the pairs."]
    saturated = [name for name in ("saturated", "saturated_stream") if name in found]
    if saturated:
        lines += [
            "",
            f"## At saturation, {args.connections} connections, one call after another, {args.seconds} s",
            "",
            "| | calls per s | p50, ms | p99, ms | failed | processor, us per call: API | worker | Redis | upstream | load |",
            "|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|",
        ]
        for name in saturated:
            figures = found[name]
            cells = [f"{figures[key]:,.{digits}f}" for key, digits in (("calls_per_s", 0), ("p50_ms", 1), ("p99_ms", 1))]
            cells.append(str(figures["failed"]))
            # The processes also worked in the second before the counting began.
            calls = figures["calls_per_s"] * (args.seconds + 1)
            parts = ("api", "worker", "redis", "upstream", "load")
            cells += [f"{figures['cpu_s'][part] / calls * 1e6:.0f}" for part in parts]
            lines.append(f"| {MEASUREMENTS[name][0]} | {' | '.join(cells)} |")
    if "streams" in found:
        figures = found["streams"]
        shares = figures["cpu_share_until_half"]
        failed = ", ".join(f"{count} {kind}" for kind, count in figures["failed"].items()) or "none"
        lines += [
            "",
            f"## {args.clients:,} streams at once, {TOKENS_PER_S} tokens a second for {args.stream_seconds} s",
            "",
            f"They begin within {RAMP_S} s; delay: from when the upstream was to send a token to its arrival.",
            "",
            f"- tokens {figures['tokens']:,}; lost {figures['lost']}, out of order {figures['reordered']}, "
            f"streams that failed: {failed}",
            f"- delay p50 {figures['delay_p50_ms']} ms, p99 {figures['delay_p99_ms']} ms, max {figures['delay_max_ms']} ms",
            f"- longest stall of any client {figures['longest_stall_ms']:.0f} ms",
            f"- first token p50 {figures['first_token_p50_ms']:.0f} ms, p99 {figures['first_token_p99_ms']:.0f} ms "
            "(200 ms of it are the upstream's)",
            f"- memory of the API: {figures['api_kb_per_client']} KB a client (resident, above idle)",
            "- processors in use: " + ", ".join(f"{name} {share:.2f}" for name, share in shares.items()),
        ]
    args.out.write_text("\n".join(lines) + "\n")
    print(f"wrote {args.out}")


if __name__ == "__main__":
    main()
