"""Checks a bill of materials against the schema, the program beside it, and Cargo.lock.

  sbom.py BOM PROGRAM
"""

import hashlib
import json
import re
import sys
import tomllib
from pathlib import Path

from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

bom_file, program = sys.argv[1:]
text = Path(bom_file).read_text()
wrong = JsonStrictValidator(SchemaVersion.V1_6).validate_str(text)
assert wrong is None, f"not CycloneDX: {wrong}"
bom = json.loads(text)

subject = bom["metadata"]["component"]
digest = hashlib.sha256(Path(program).read_bytes()).hexdigest()
assert subject["name"] == "camd", subject
assert subject["hashes"] == [{"alg": "SHA-256", "content": digest}], "it is of another program"

crates = {(c["name"], c["version"]): c for c in bom["components"] if c.get("purl", "").startswith("pkg:cargo/")}
assert len(crates) > 20
# What the program itself tells of its parts, where they panic.
code = Path(program).read_bytes()
told = set(re.findall(rb"/([a-z0-9_-]+?)-(\d+\.\d+\.\d+[a-z0-9.+-]*)/src/", code))
told = {(name.decode(), version.decode()) for name, version in told}
assert "mio" in {name for name, _ in told}, told
[std] = [c for c in bom["components"] if c["name"] == "the Rust standard library"]
of_std = {(c["name"], c["version"]) for c in std["components"]}
# All that the standard library brings along on Linux: nothing of camd's own may hide there.
STD = {"addr2line", "adler2", "cfg-if", "gimli", "hashbrown", "libc", "memchr", "miniz_oxide", "object", "rustc-demangle", "std_detect"}
assert {name for name, _ in of_std} <= STD, of_std
assert told <= crates.keys() | of_std, f"not in the bill: {told - crates.keys() - of_std}"
# What only tests and build scripts use is none.
foreign = {"fastrand", "bindgen", "cc", "syn", "proc-macro2", "serde_derive", "nom"} & {name for name, _ in crates}
assert not foreign, foreign

lock = {(p["name"], p["version"]): p.get("checksum") for p in tomllib.loads(Path("Cargo.lock").read_text())["package"]}
for crate, component in crates.items():
    assert component["hashes"] == [{"alg": "SHA-256", "content": lock[crate]}], crate
    assert component["licenses"][0]["expression"], crate

inside = [part for name, component in crates.items() if name[0] == "mozjpeg-sys" for part in component["components"]]
assert [part["name"] for part in inside] == ["mozjpeg"], "libjpeg's code is not named"
others = {c["name"]: c["version"] for c in bom["components"] if "purl" not in c}
assert others.keys() == {"the Rust standard library", "LLVM's compiler-rt and libunwind", "the start code of the GNU C library"}

# Each part is used by something, and nothing is used that is no part.
refs = {subject["bom-ref"]} | {c["bom-ref"] for c in bom["components"]}
inner = {part["bom-ref"] for c in bom["components"] for part in c.get("components", [])}
used = {ref for edge in bom["dependencies"] for ref in edge["dependsOn"]}
assert used == (refs | inner) - {subject["bom-ref"]}, used ^ (refs | inner)
