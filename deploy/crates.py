"""The crates whose code is in a program of this repository, as cargo tells it: for deploy/licences and deploy/sbom."""

import json
import subprocess
from pathlib import Path

TOP = Path(__file__).resolve().parent.parent


class Crates:
    """`root` is camd itself, `linked` are the packages of others, by name and version, `dependencies` the ids that each of
    them uses, by its id. All are as in `cargo metadata`."""

    def __init__(self, target):
        metadata = json.loads(cargo("metadata", "--format-version=1", f"--filter-platform={target}"))
        packages = {p["id"]: p for p in metadata["packages"]}
        # Only what is linked in: no build scripts, no macros, no tests. `cargo metadata` alone does not tell: in it, features that
        # only those ask for bring in crates for all.
        tree = cargo("tree", "--target", target, "-e", "normal,no-proc-macro", "--prefix", "none", "--format", "{p}")
        linked = {tuple(line.split()[:2]) for line in tree.splitlines() if line}
        ids = {i for i, p in packages.items() if (p["name"], f"v{p['version']}") in linked}
        root = metadata["resolve"]["root"]
        self.root = packages[root]
        self.linked = sorted((packages[i] for i in ids - {root}), key=lambda p: (p["name"], p["version"]))
        nodes = {n["id"]: n for n in metadata["resolve"]["nodes"]}
        self.dependencies = {
            i: [
                d["pkg"] for d in nodes[i]["deps"]
                if d["pkg"] in ids and any(k["kind"] is None for k in d["dep_kinds"])
            ]
            for i in ids
        }  # fmt: skip


def cargo(command, *options):
    said = subprocess.run(["cargo", command, "--locked", *options], check=True, stdout=subprocess.PIPE, cwd=TOP).stdout
    return said.decode()
