"""The card: what lies where, and how it is written so that nothing can be half done.

After the image is on the card, nothing ever changes the FAT file system's own structures: not the box, and not an
update. The files of both systems, `select.txt` and `camd-errors.txt` have their full size from the beginning, each in
one piece, and only their contents are overwritten. So a power cut at any moment leaves a good file system.

Which system starts is one sector, `select.txt`, which the Pi's firmware reads as a part of config.txt. A disk writes a
sector whole or not at all.
"""

import os
import struct
from pathlib import Path
from typing import NamedTuple

SECTOR = 512
MIB = 1 << 20

DISK_SIZE = 128 * MIB
PARTITION_START = 1 * MIB
CLUSTER = 4096
VOLUME_LABEL = "CAMD"

SLOTS = ("a", "b")
SELECT = "select.txt"
ERRORS = "camd-errors.txt"
ERRORS_SIZE = 4096
NO_ERRORS = "No errors.\n"

# The files of one system, with their fixed sizes. Kernels and the initramfs may end in zeros; so may a device tree whose
# header says so.
DEVICE_TREES = (
    "bcm2836-rpi-2-b.dtb", "bcm2837-rpi-3-a-plus.dtb", "bcm2837-rpi-3-b.dtb", "bcm2837-rpi-3-b-plus.dtb",
    "bcm2837-rpi-cm3-io3.dtb", "bcm2711-rpi-4-b.dtb", "bcm2711-rpi-400.dtb", "bcm2711-rpi-cm4-io.dtb",
)  # fmt: skip
SLOT_FILES = {
    "kernel7.img": 7 * MIB,
    "kernel8.img": 15 * MIB,
    "initramfs7.img": 15 * MIB,
    "initramfs8.img": 16 * MIB,
    "cmdline.txt": SECTOR,
    **{name: 64 * 1024 for name in DEVICE_TREES},
}

CONFIRMED = "confirmed"  # this system has been well
TRIAL = "trial"  # this system is new: it is to put the other one back at once, and to confirm itself when it is well
TRYING = "trying"  # the other system is on trial; if this one starts, the trial has failed
FAILED = "failed"  # so it was


class Error(Exception):
    """What is wrong with the card, and the way out."""


def other(slot):
    return SLOTS[1 - SLOTS.index(slot)]


class Selection(NamedTuple):
    """What select.txt says. `sector` is where it lies itself, and `errors` where camd-errors.txt does: the box writes
    both without a file system."""

    slot: str
    state: str
    sector: int
    errors: int

    def text(self):
        text = (
            f"os_prefix={self.slot}/\n"
            f"#camd state={self.state} sector={self.sector} errors={self.errors}\n"
            "# Which of the two systems on this card starts. The box and deploy/image/update write this file in place.\n"
            "# A system that does not start: deploy/image/update --back CARD, or write the other letter, a or b, above.\n"
        )
        return text.ljust(SECTOR - 1) + "\n"

    @classmethod
    def parse(cls, data):
        """By hand the letter may be changed: so only what is needed is asked for."""
        words = dict(word.partition("=")[::2] for word in data.decode("ascii", "replace").split())
        slot = words.get("os_prefix", "").rstrip("/")
        try:
            found = cls(slot, words["state"], int(words["sector"]), int(words["errors"]))
        except (KeyError, ValueError):
            raise Error(f"{SELECT} is not as the image has it; write the image to the card anew") from None
        if slot not in SLOTS:
            raise Error(f"{SELECT}: os_prefix is {slot!r}, not a/ or b/")
        return found


def device_tree(data, size):
    """Grows a device tree to a file of `size`, with room at its end: the firmware adds to it anyway."""
    magic, total = struct.unpack(">II", data[:8])
    if magic != 0xD00DFEED or total > size:
        raise Error(f"not a device tree of at most {size} bytes")
    return data[:4] + struct.pack(">I", size) + data[8:]


def fit(name, data):
    """A slot's file, filled up to its size."""
    size = SLOT_FILES[name]
    if name.endswith(".dtb"):
        data = device_tree(data, size)
    if len(data) > size:
        raise Error(f"{name} has {len(data)} bytes, and its place on the card {size}")
    return data.ljust(size, b" " if name == "cmdline.txt" else b"\0")


def cmdline(text, slot):
    """A kernel command line that says which slot it is. The firmware takes the first line."""
    words = [word for word in text.split() if not word.startswith("camd.slot=")]
    return (" ".join([*words, f"camd.slot={slot}"])).ljust(SECTOR - 1).encode() + b"\n"


def errors_text(text):
    """What camd-errors.txt holds: as much as fits, filled up with spaces."""
    data = text.encode()[: ERRORS_SIZE - 1]
    return data.ljust(ERRORS_SIZE - 1) + b"\n"


class Fat:
    """Reads a FAT16 or FAT32 file system, as far as to say where a file's bytes are. Long names are not looked at: all
    names that matter here are looked up by what mtools and Linux made of them."""

    def __init__(self, file, start=0):
        self._file, self.start = file, start
        boot = self._read(0, SECTOR)
        if boot[510:] != b"\x55\xaa":
            raise Error("no FAT file system")
        (bytes_per_sector, per_cluster, reserved, fats, root_entries) = struct.unpack_from("<HBHBH", boot, 11)
        (fat_sectors16,) = struct.unpack_from("<H", boot, 22)
        (fat_sectors32,) = struct.unpack_from("<I", boot, 36)
        if bytes_per_sector != SECTOR or per_cluster == 0 or fats == 0:
            raise Error("no FAT file system with sectors of 512 bytes")
        self.wide = fat_sectors16 == 0
        fat_sectors = fat_sectors16 or fat_sectors32
        self.cluster = per_cluster * SECTOR
        self._fat = self._read(reserved * SECTOR, fat_sectors * SECTOR)
        root = (reserved + fats * fat_sectors) * SECTOR
        self._data = root + root_entries * 32
        if self.wide:
            self._root = self._contents(struct.unpack_from("<I", boot, 44)[0])
        else:
            self._root = self._read(root, root_entries * 32)

    def _read(self, offset, size):
        self._file.seek(self.start + offset)
        return self._file.read(size)

    def _chain(self, cluster):
        clusters = []
        last = 0x0FFFFFF8 if self.wide else 0xFFF8
        while 2 <= cluster < last:
            clusters.append(cluster)
            if len(clusters) > len(self._fat):
                raise Error("the FAT file system is damaged: a file without an end")
            entry = struct.unpack_from("<I" if self.wide else "<H", self._fat, cluster * (4 if self.wide else 2))[0]
            cluster = entry & (0x0FFFFFFF if self.wide else 0xFFFF)
        return clusters

    def _offset(self, cluster):
        return self._data + (cluster - 2) * self.cluster

    def _contents(self, first):
        return b"".join(self._read(self._offset(c), self.cluster) for c in self._chain(first))

    def _entries(self, folder):
        """(name, attributes, first cluster, size) of all that a folder holds, with long names put together."""
        long = {}
        for at in range(0, len(folder), 32):
            entry = folder[at : at + 32]
            if entry[0] == 0:
                break
            if entry[0] == 0xE5:
                long = {}
            elif entry[11] == 0x0F:
                long[entry[0] & 0x1F] = entry[1:11] + entry[14:26] + entry[28:32]
            else:
                stem, suffix = entry[:8].decode("cp437").rstrip(), entry[8:11].decode("cp437").rstrip()
                name = f"{stem}.{suffix}" if suffix else stem
                if long:
                    units = b"".join(long[n] for n in sorted(long)).decode("utf-16-le", "replace")
                    name = units.partition("\0")[0]
                high, low, size = struct.unpack_from("<H", entry, 20)[0], *struct.unpack_from("<HI", entry, 26)
                yield name, entry[11], (high << 16 if self.wide else 0) | low, size
                long = {}

    def extent(self, path):
        """(offset in the disk, size) of a file that lies in one piece."""
        folder, parts = self._root, Path(path).parts
        for depth, part in enumerate(parts):
            for name, attributes, first, size in self._entries(folder):
                if name.lower() == part.lower() and not attributes & 0x08:
                    break
            else:
                raise Error(f"there is no {path} on the card; write the image to it anew")
            if depth + 1 < len(parts):
                folder = self._contents(first)
        clusters = self._chain(first)
        if clusters != list(range(first, first + len(clusters))) or len(clusters) * self.cluster < size:
            raise Error(f"{path} does not lie in one piece; write the image to the card anew")
        return self.start + self._offset(first), size


class Disk:
    """A card as a block device, or an image of one in a file."""

    def __init__(self, path, write=True):
        self.path = Path(path)
        flags = os.O_RDWR if write else os.O_RDONLY
        if self.path.is_block_device() and write:
            flags |= os.O_EXCL  # fails while a partition of it is mounted
        try:
            self._file = os.fdopen(os.open(path, flags), "r+b" if write else "rb", buffering=0)
        except OSError as error:
            busy = "; eject it first, or name the folder where it is mounted" if error.errno == 16 else ""
            raise Error(f"{path}: {error.strerror}{busy}") from None
        start = 0
        table = self._file.read(SECTOR)
        if table[510:512] == b"\x55\xaa" and table[446 + 4] in (0x06, 0x0B, 0x0C, 0x0E):
            start = struct.unpack_from("<I", table, 446 + 8)[0] * SECTOR
        self.fat = Fat(self._file, start)

    def close(self):
        self._file.close()

    def read(self, path):
        offset, size = self.fat.extent(path)
        self._file.seek(offset)
        # An image file ends where nothing but empty slots would follow.
        return self._read_all(size).ljust(size, b"\0")

    def _read_all(self, size):
        data = bytearray()
        while len(data) < size:
            piece = self._file.read(size - len(data))
            if not piece:
                break
            data += piece
        return bytes(data)

    def write(self, path, data):
        offset, size = self.fat.extent(path)
        if len(data) != size:
            raise Error(f"{path} has {size} bytes on the card, and {len(data)} are to be written")
        self._file.seek(offset)
        view = memoryview(data)
        while view:
            view = view[self._file.write(view) :]

    def sync(self):
        os.fsync(self._file.fileno())


class Folder:
    """A card that is mounted."""

    def __init__(self, path):
        self.path = Path(path)

    def close(self):
        pass

    def read(self, path):
        try:
            return (self.path / path).read_bytes()
        except FileNotFoundError:
            raise Error(f"there is no {path} in {self.path}: is this the card of a camera box?") from None

    def write(self, path, data):
        target = self.path / path
        if not target.exists() or target.stat().st_size != len(data):
            raise Error(f"{target} is not of {len(data)} bytes; write the image to the card anew")
        with open(target, "r+b") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())

    def sync(self):
        os.sync()


def open_card(path, write=True):
    return Folder(path) if Path(path).is_dir() else Disk(path, write)
