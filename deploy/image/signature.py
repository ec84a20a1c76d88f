"""Signatures: who has made an image. Ed25519, as minisign has it (https://jedisct1.github.io/minisign/#signature-format).

The key is its builder's, outside of the tree, and the same for all images: a box takes from the network only what is signed
with the key of the image that it runs. Whoever has the file may change every such box, and without it there is no update
over the network for them any more: keep a copy.

An image is signed twice. IMAGE.minisig beside it is for people: it is over the whole file. The other one is in the image,
between the partition table and the partition, where nothing else is: a list of the parts of the system with their checksums,
and the signature of that list. It comes first in the file, so a box that is sent the file knows of each part whether it is
right before it writes it.
"""

import hashlib
import os
import subprocess
import tempfile
from pathlib import Path

import card

# Where the list begins and ends in an image.
PLACE = card.SECTOR
SIZE = 64 * 1024 - PLACE
MAGIC = "camd-update 1\n"
# So much is checked and written at a time.
PART = card.MIB


def default_key():
    """Where the key is that the first build makes."""
    base = os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config"
    return Path(base) / "camd" / "image.key"


def minisign(*arguments):
    try:
        done = subprocess.run(["minisign", *map(str, arguments)], stdin=subprocess.DEVNULL, capture_output=True)
    except FileNotFoundError:
        raise card.Error("minisign is missing; apt-get install minisign") from None
    if done.returncode != 0:
        said = (done.stderr or done.stdout).decode(errors="replace").strip()
        raise card.Error(f"minisign failed with exit code {done.returncode}: {said}")


class Key:
    """A secret key without a password, and its public half."""

    def __init__(self, path):
        self.path = path

    @classmethod
    def make(cls, path):
        """Another one for whoever has none yet; nobody else may read it."""
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with tempfile.TemporaryDirectory(dir=path.parent) as folder:
            made = Path(folder) / "key"
            minisign("-G", "-W", "-p", Path(folder) / "pub", "-s", made)
            made.chmod(0o600)
            # Not over one that another build has made meanwhile.
            os.link(made, path)
        return cls(path)

    def public(self):
        """The text of its public half."""
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "pub"
            minisign("-R", "-s", self.path, "-p", path)
            return path.read_text()

    def sign(self, path, comment):
        """The text of the signature of a file. The same file and comment always get the same one."""
        with tempfile.TemporaryDirectory() as folder:
            made = Path(folder) / "sig"
            minisign("-S", "-s", self.path, "-m", path, "-x", made, "-c", "signature of a camd camera box", "-t", comment)
            return made.read_text()


def comment(version, when):
    """What the signature says and covers besides the file."""
    return f"{version}, built {when}"


def parts(path):
    """(offset in the image, length, file of the system, offset in that, SHA-256) of all that an update writes, in the order
    in which it comes."""
    disk, found = card.Disk(path, write=False), []
    for name in card.SLOT_FILES:
        data, (at, size) = disk.read(f"a/{name}"), disk.fat.extent(f"a/{name}")
        for begin in range(0, size, PART):
            part = data[begin : begin + PART]
            found.append((at + begin, len(part), name, begin, hashlib.sha256(part).hexdigest()))
    disk.close()
    return sorted(found)


def embed(path, key, version, when):
    """Writes the signed list into an image."""
    found = parts(path)
    # Only what is not in the file, as zeros follow there, could lie behind its end.
    os.truncate(path, max(os.path.getsize(path), max(at + length for at, length, *_ in found)))
    text = MAGIC + f"version {version}\nbuilt {when}\n" + "".join(
        f"part {at} {length} {name} {begin} {digest}\n" for at, length, name, begin, digest in found
    )  # fmt: skip
    with tempfile.NamedTemporaryFile("w") as file:
        file.write(text)
        file.flush()
        signature = key.sign(file.name, comment(version, when))
    data = f"{text}\n{signature}".encode()
    if len(data) > SIZE:
        raise card.Error(f"the list of an image's parts has {len(data)} bytes, and its place {SIZE}")
    with open(path, "r+b") as file:
        file.seek(PLACE)
        file.write(data.ljust(SIZE, b"\0"))
