#!/usr/bin/env python3
"""Shows that the tests catch planted faults: `make mutants` (ARGS=PART picks some by name).

Puts each fault of tests/mutants.toml into a copy of the tree, builds it, and runs the conformance suite,
the random histories (CAUSEWAY_HISTORIES, default 200) and the tests of what can befall a server, of what is
left over, of repairs, of failing upstreams and of what passes through. Exits with 1 when a fault was not caught.
"""

import os
import pathlib
import re
import shutil
import subprocess
import sys
import time
import tomllib

ROOT = pathlib.Path(__file__).resolve().parent.parent
WORK = ROOT / "target" / "mutants"
TREE = WORK / "tree"
TESTS = "test(/^(conformance|history|leftovers|repairs|server|journeys::(passing|retry|sdk_retries|simulated|store_access|waits))::/)"
LONGEST_S = 300


def copy_tree():
    shutil.rmtree(TREE, ignore_errors=True)
    names = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True).stdout
    for name in names.decode().split("\0")[:-1]:
        target = TREE / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, target)


def plant(mutant):
    path = TREE / mutant["file"]
    sound = path.read_text()
    text = sound
    for find, replace in [(mutant["find"], mutant["replace"]), *([mutant["both"]] if "both" in mutant else [])]:
        if text.count(find) != 1:
            sys.exit(f"mutants: {mutant['name']}: {find!r} is {text.count(find)} times in {mutant['file']}, not once")
        text = text.replace(find, replace)
    path.write_text(text)
    return lambda: path.write_text(sound)


def cargo(*arguments, longest=LONGEST_S):
    environment = {
        "CAUSEWAY_HISTORIES": "200",
        **os.environ,
        "CARGO_TARGET_DIR": str(WORK / "build"),
        "RUSTFLAGS": "-A warnings",
        "RUST_BACKTRACE": "0",
    }
    command = ["cargo", "nextest", "run", "--locked", "--test", "causeway", "--cargo-quiet", "-E", TESTS, *arguments]
    return subprocess.run(
        command, cwd=TREE, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=longest
    )


def main():
    mutants = tomllib.loads((ROOT / "tests" / "mutants.toml").read_text())["mutant"]
    chosen = [mutant for mutant in mutants if all(part in mutant["name"] for part in sys.argv[1:])]
    if not chosen:
        sys.exit("mutants: no fault has such a name")
    copy_tree()
    # A build takes its time, the first one most.
    cargo("--no-run", longest=None)
    sound = cargo("--status-level", "fail")
    if sound.returncode != 0:
        sys.exit(f"mutants: the tests fail without any fault:\n{sound.stdout}")
    missed = []
    for mutant in chosen:
        began = time.monotonic()
        restore = plant(mutant)
        built = cargo("--no-run", longest=None)
        if built.returncode != 0:
            sys.exit(f"mutants: {mutant['name']} does not build:\n{built.stdout}")
        try:
            tested = cargo("--status-level", "fail", "--fail-fast")
            caught = re.findall(r"(?:FAIL|TIMEOUT|SIG\w+) \[.*?causeway (\S+)", tested.stdout)
            verdict = f"caught by {caught[0]}" if tested.returncode != 0 and caught else "MISSED"
        except subprocess.TimeoutExpired:
            verdict = f"caught: it hangs for {LONGEST_S} s"
        restore()
        if verdict == "MISSED":
            missed.append(mutant["name"])
        print(f"{time.monotonic() - began:6.1f} s  {mutant['name']}: {verdict}", flush=True)
    print(f"{len(chosen) - len(missed)} of {len(chosen)} planted faults were caught")
    sys.exit(1 if missed else 0)


main()
