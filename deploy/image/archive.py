"""A cpio archive as the kernel unpacks it (newc), the same bytes whoever packs it, and without root's rights.

https://docs.kernel.org/driver-api/early-userspace/buffer-format.html
"""

import os
import stat
from pathlib import Path


def pack(folder, out, when, devices=()):
    """Writes what is in `folder`, sorted, as root's, with `when` as its time. `devices` are (name, mode, major, minor)
    of character devices, which only root could have put into the folder."""
    folder = Path(folder)
    number = 0

    def entry(name, mode, data=b"", device=(0, 0)):
        nonlocal number
        number += 1
        links = 2 if stat.S_ISDIR(mode) else 1
        encoded = os.fsencode(name) + b"\0"
        fields = (number, mode, 0, 0, links, when, len(data), 0, 0, *device, len(encoded), 0)
        head = b"070701" + b"".join(b"%08X" % field for field in fields) + encoded
        for part in (head, data):
            out.write(part + b"\0" * (-len(part) % 4))

    for path in sorted(folder.rglob("*")):
        name, mode = path.relative_to(folder), path.lstat().st_mode
        if path.is_symlink():
            entry(name, stat.S_IFLNK | 0o777, os.fsencode(os.readlink(path)))
        elif path.is_dir():
            entry(name, stat.S_IFDIR | 0o755)
        else:
            entry(name, stat.S_IFREG | (0o755 if mode & 0o100 else 0o644), path.read_bytes())
    for name, mode, *device in devices:
        entry(name, stat.S_IFCHR | mode, device=device)
    number = -1
    entry("TRAILER!!!", 0)
