#!/usr/bin/env python3
"""Finds import circles between the modules of each crate: `scripts/import-circles.py [SRC_FOLDER ...]`.

A module imports the deepest module of its crate that a path in it names, outside tests. Modules that import one
another, directly or through others, form a circle. Exits with 1 if there is any.
"""

import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent


def expand(tree):
    """Returns the paths of a use tree: `a::{b, c::d}` gives `a::b` and `a::c::d`."""
    while found := re.search(r"([\w:]*)\{([^{}]*)\}", tree):
        paths = ", ".join(found[1] + part.strip() for part in found[2].split(",") if part.strip())
        tree = tree[: found.start()] + paths + tree[found.end() :]
    return tree.split(", ")


def target(module, names, modules):
    """Returns the deepest module that the path `names` in `module` names; `None` outside the crate."""
    base = () if names[0] == "crate" else module
    if names[0] not in ("crate", "self", "super") and (*module, names[0]) not in modules:
        return None
    while names and names[0] in ("crate", "self", "super"):
        base = base[:-1] if names.pop(0) == "super" else base
    full = (*base, *names)
    return next((full[:n] for n in range(len(full), -1, -1) if full[:n] in modules), None)


def imports(source):
    """Returns the modules below the folder `source`, each with the set of modules that it imports."""
    modules = {path.relative_to(source).with_suffix("").parts: path for path in sorted(source.rglob("*.rs"))}
    modules = {() if m == ("lib",) else m: path for m, path in modules.items() if "tests" not in m}
    graph = {}
    for module, path in modules.items():
        text = re.sub(r"//[^\n]*|pub\(in [^)]*\)", "", path.read_text())
        text = re.split(r"#\[cfg\(test\)\]\s*mod \w+ \{", text)[0]
        paths = [one for use in re.findall(r"\buse\s+([^;]*);", text) for one in expand(use)]
        paths += re.findall(r"\b\w+(?:::\w+)+", re.sub(r"\buse\s[^;]*;", "", text))
        graph[module] = {target(module, one.split(" as ")[0].split("::"), modules) for one in paths} - {module, None}
    return graph


sources = [pathlib.Path(name) for name in sys.argv[1:]]
sources = sources or [path.parent for path in sorted(ROOT.glob("**/src/lib.rs"))]
circles = 0
for source in (source for source in sources if "target" not in source.parts):
    reach = imports(source)
    for via in reach:  # Warshall's closure (1962).
        reach = {m: found | reach[via] if via in found else found for m, found in reach.items()}
    for group in {frozenset(o for o in found if m in reach[o]) for m, found in reach.items()} - {frozenset()}:
        circles += 1
        print(f"{source}: circle of {len(group)}:", ", ".join(sorted("::".join(m) or "the root" for m in group)))
sys.exit(f"{circles} import circles" if circles else 0)
