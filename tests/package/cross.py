"""Whether a Cross.toml has, for each target that has packages, what the build needs: cross.py FILE. No container engine
is needed; whether the image can be fetched and works is not seen here."""

import sys
import tomllib

TARGETS = {
    "armv7-unknown-linux-gnueabihf": "arm-linux-gnueabihf",
    "aarch64-unknown-linux-gnu": "aarch64-linux-gnu",
    "x86_64-unknown-linux-gnu": None,
}

with open(sys.argv[1], "rb") as file:
    targets = tomllib.load(file)["target"]
wrong = []
for target, gnu in TARGETS.items():
    if target not in targets:
        wrong.append(f"no [target.{target}]")
        continue
    section = targets[target]
    if section.keys() - {"image", "pre-build", "env"}:
        wrong.append(f"{target}: keys that cross 0.2.5 does not know")
    if not section["image"].startswith(f"ghcr.io/cross-rs/{target}:"):
        wrong.append(f"{target}: another image")
    words = " ".join(section["pre-build"]).split()
    wrong += [f"{target}: without {p}" for p in ("libclang-dev", *(("nasm",) if gnu is None else ())) if p not in words]
    # Read from the environment of whoever calls cross if it has no "=".
    passed = dict(v.split("=", 1) for v in section.get("env", {}).get("passthrough", []))
    name = f"BINDGEN_EXTRA_CLANG_ARGS_{target.replace('-', '_')}"
    if gnu and f"--sysroot=/usr/{gnu}" not in passed.get(name, ""):
        wrong.append(f"{target}: {name} without the sysroot")
print(*wrong, sep="\n")
sys.exit(bool(wrong))
