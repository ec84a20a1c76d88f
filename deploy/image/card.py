"""The card: what lies where, and how it is written so that nothing can be half done.

After the image is on the card, nothing ever changes the FAT file system's own structures: not the box, and not an
update. The files of both systems, `select.txt` and `camd-errors.txt` have their full size from the beginning, each in
one piece, and only their contents are overwritten. So a power cut at any moment leaves a good file system.

Which system starts is one sector, `select.txt`, which the Pi's firmware reads as a part of config.txt. A disk writes a
sector whole or not at all.
"""

import base64
import errno
import hashlib
import os
import re
import secrets
import stat
import struct
from pathlib import Path
from typing import NamedTuple

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

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
    "bcm2837-rpi-cm3-io3.dtb", "bcm2837-rpi-zero-2-w.dtb", "bcm2711-rpi-4-b.dtb", "bcm2711-rpi-400.dtb", "bcm2711-rpi-cm4-io.dtb",
)  # fmt: skip
SLOT_FILES = {
    "kernel7.img": 7 * MIB,
    "kernel8.img": 15 * MIB,
    "initramfs7.img": 15 * MIB,
    "initramfs8.img": 16 * MIB,
    "cmdline.txt": SECTOR,
    **{name: 64 * 1024 for name in DEVICE_TREES},
    "sha256.txt": CLUSTER,
}
# Of all the others of a system, so that half of one is told from a whole one.
SUMS = "sha256.txt"

# What the card's owner writes. As the image had them they are in SHIPPED, too.
OWNER_FILES = (
    "camd.toml", "camd-2.toml", "camd-3.toml", "camd-4.toml", "password.txt", "wifi.conf", "network.conf", "hostname", "timezone",
)  # fmt: skip
SHIPPED = "shipped"

# Its first line is the password of USER, the user of camd.toml as it is shipped. If that line is empty, the box makes a
# password at its first start and writes it there, in place, so the file has a sector of its own.
PASSWORD = "password.txt"
USER = "camd"
LONGEST_PASSWORD = 256

CONFIRMED = "confirmed"  # this system has been well
TRIAL = "trial"  # this system is new: it is to put the other one back at once, and to confirm itself when it is well
TRYING = "trying"  # the other system is on trial; if this one starts, the trial has failed
FAILED = "failed"  # so it was
STATES = (CONFIRMED, TRIAL, TRYING, FAILED)


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
        """By hand the letter may be changed. What an editor has lost is taken for what an image has: see `Disk.repair`."""
        words = dict(word.partition("=")[::2] for word in data.decode("ascii", "replace").split())
        slot = words.get("os_prefix", "").rstrip("/")
        if slot not in SLOTS:
            raise Error(f"{SELECT}: os_prefix is {slot!r}, not a/ or b/; write the image to the card anew")
        state = words.get("state")
        places = [int(words[word]) if words.get(word, "").isdigit() else 0 for word in ("sector", "errors")]
        return cls(slot, state if state in STATES else CONFIRMED, *places)


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


def sums(files):
    """The text of SUMS for the files (name: bytes) of a system, as `sha256sum` has it."""
    lines = [f"{checksum(name, files[name])}  {name}\n" for name in SLOT_FILES if name != SUMS]
    return "".join(lines).encode().ljust(SLOT_FILES[SUMS] - 1) + b"\n"


def checksum(name, data):
    """A kernel command line is the same in both systems but for the slot that it names."""
    if name == "cmdline.txt":
        data = cmdline(data.decode("ascii", "replace"), SLOTS[0])
    return hashlib.sha256(data).hexdigest()


def verify(disk, slot):
    """Whether all files of a system are there as they were made."""
    if not disk.read(f"{slot}/kernel7.img").strip(b"\0"):
        raise Error(f"there is no system in {slot}/ yet")
    listed = dict(line.split()[::-1] for line in disk.read(f"{slot}/{SUMS}").decode("ascii", "replace").splitlines()
                  if len(line.split()) == 2)  # fmt: skip
    if not listed:
        raise Error(f"{slot}/{SUMS} in {disk.path} is empty: it is not a whole image or card, or one from before there were checksums")
    for name in SLOT_FILES:
        if name != SUMS and listed.get(name) != checksum(name, disk.read(f"{slot}/{name}")):
            raise Error(f"{slot}/{name} in {disk.path} is damaged: its checksum is not the one in {slot}/{SUMS}")


def seal(disk, slot):
    """Writes the SUMS of what a system holds now."""
    disk.write(f"{slot}/{SUMS}", sums({name: disk.read(f"{slot}/{name}") for name in SLOT_FILES}))


def errors_text(text):
    """What camd-errors.txt holds: as much as fits, filled up with spaces."""
    data = text.encode()[: ERRORS_SIZE - 1]
    return data.ljust(ERRORS_SIZE - 1) + b"\n"


def new_password():
    """80 random bits as 16 letters and digits, none of which looks like another one of them."""
    return base64.b32encode(secrets.token_bytes(10)).decode().lower()


def password_text(password):
    """What password.txt holds; without a password, for a box that makes its own."""
    if not 0 <= len(password.encode()) <= LONGEST_PASSWORD or password != password.strip() or not password.isprintable():
        raise Error(f"a password is 1 to {LONGEST_PASSWORD} bytes in one line, without spaces at its ends")
    text = (
        f"{password}\n\n"
        f'The line above is the password of the user "{USER}" on this box\'s page. You may write another one there; it\n'
        "counts from the next start. If the line is empty, the box makes one, at its start.\n"
    )
    return text.encode().ljust(SECTOR - 1) + b"\n"


def password_of(text):
    """The first line of password.txt; empty if there is none."""
    return text.decode("utf-8-sig", "replace").splitlines()[0].strip() if text.strip() else ""


def login(password):
    """Says how its owner gets in."""
    if not password:
        return f"each box makes a login of its own at its first start: user {USER}, and the password in {PASSWORD} on its card"
    return f"its login: user {USER}, password {password} (it is in {PASSWORD} on the card, too)"


class Fat:
    """Reads a FAT16 or FAT32 file system, as far as to say where a file's bytes are, and writes files of its root folder.
    Long names are not looked at: all names that matter here are looked up by what mtools and Linux made of them."""

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
        self._fats = [(reserved + number * fat_sectors) * SECTOR for number in range(fats)]
        self._fat = bytearray(self._read(reserved * SECTOR, fat_sectors * SECTOR))
        root = (reserved + fats * fat_sectors) * SECTOR
        self._data = root + root_entries * 32
        total = struct.unpack_from("<H", boot, 19)[0] or struct.unpack_from("<I", boot, 32)[0]
        self._clusters = (total * SECTOR - self._data) // self.cluster
        if self.wide:
            # Where each piece of the root folder lies.
            self._root_at = [self._offset(c) for c in self._chain(struct.unpack_from("<I", boot, 44)[0])]
            self._root_piece = self.cluster
        else:
            self._root_at, self._root_piece = [root], root_entries * 32
        self._root = b"".join(self._read(at, self._root_piece) for at in self._root_at)

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
            cluster = self._next(cluster)
        return clusters

    def _next(self, cluster):
        entry = struct.unpack_from("<I" if self.wide else "<H", self._fat, cluster * (4 if self.wide else 2))[0]
        return entry & (0x0FFFFFFF if self.wide else 0xFFFF)

    def _set_next(self, cluster, value):
        if self.wide:
            struct.pack_into("<I", self._fat, cluster * 4, value & 0x0FFFFFFF)
        else:
            struct.pack_into("<H", self._fat, cluster * 2, value & 0xFFFF)

    def _offset(self, cluster):
        return self._data + (cluster - 2) * self.cluster

    def _contents(self, first):
        return b"".join(self._read(self._offset(c), self.cluster) for c in self._chain(first))

    def _entries(self, folder):
        """(name, attributes, first cluster, size, where its entries begin and where the last one is) of all that a folder
        holds, with long names put together."""
        long, begin = {}, None
        for at in range(0, len(folder), 32):
            entry = folder[at : at + 32]
            if entry[0] == 0:
                break
            if entry[0] == 0xE5:
                long, begin = {}, None
            elif entry[11] == 0x0F:
                begin = at if begin is None else begin
                long[entry[0] & 0x1F] = entry[1:11] + entry[14:26] + entry[28:32]
            else:
                stem, suffix = entry[:8].decode("cp437").rstrip(), entry[8:11].decode("cp437").rstrip()
                name = f"{stem}.{suffix}" if suffix else stem
                if long:
                    units = b"".join(long[n] for n in sorted(long)).decode("utf-16-le", "replace")
                    name = units.partition("\0")[0]
                high, low, size = struct.unpack_from("<H", entry, 20)[0], *struct.unpack_from("<HI", entry, 26)
                yield name, entry[11], (high << 16 if self.wide else 0) | low, size, at if begin is None else begin, at
                long, begin = {}, None

    def extent(self, path):
        """(offset in the disk, size) of a file that lies in one piece."""
        folder, parts = self._root, Path(path).parts
        for depth, part in enumerate(parts):
            for name, attributes, first, size, *_ in self._entries(folder):
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


    def find(self, name):
        """(first cluster, size, where its entries begin and end) of a file in the root folder; None if it is not there."""
        for its, attributes, first, size, begin, end in self._entries(self._root):
            if its.lower() == name.lower() and not attributes & 0x18:
                return first, size, begin, end
        return None

    def get(self, name):
        """The contents of a file in the root folder, in however many pieces; None if it is not there."""
        found = self.find(name)
        return found and self._contents(found[0])[: found[1]]

    def put(self, name, data):
        """Writes a file of the root folder that is there already. Its new contents go to free places, and become the file
        with the sector of its entry, so an interruption leaves the old file or the new one."""
        found = self.find(name)
        if not found:
            raise Error(f"there is no {name} on the card yet: mount the card, and name the folder")
        count = -(-len(data) // self.cluster)
        free = [c for c in range(2, self._clusters + 2) if self._next(c) == 0][:count]
        if len(free) < count:
            raise Error("the card is full")
        for number, cluster in enumerate(free):
            piece = data[number * self.cluster : (number + 1) * self.cluster]
            self._write(self._offset(cluster), piece.ljust(self.cluster, b"\0"))
            self._set_next(cluster, free[number + 1] if number + 1 < count else 0x0FFFFFFF)
        self._write_fats()
        self._set_entry(found[3], free[0] if free else 0, len(data))
        self._free(found[0])

    def remove(self, name):
        """Takes a file out of the root folder, if it is there."""
        found = self.find(name)
        if found:
            for at in range(found[3], found[2] - 1, -32):
                self._write_root(at, b"\xe5")
            self._free(found[0])

    def set_size(self, name, size):
        """Of a file that has its clusters already."""
        first, _, _, end = self.find(name)
        self._set_entry(end, first, size)

    def _set_entry(self, at, first, size):
        self._write_root(at + 20, struct.pack("<H", first >> 16 if self.wide else 0))
        self._write_root(at + 26, struct.pack("<HI", first & 0xFFFF, size))

    def _free(self, first):
        for cluster in self._chain(first):
            self._set_next(cluster, 0)
        self._write_fats()

    def _write_fats(self):
        for at in self._fats:
            self._write(at, bytes(self._fat))

    def _write_root(self, at, data):
        """A change within an entry. Raw devices of some systems take whole sectors only."""
        self._root = self._root[:at] + data + self._root[at + len(data) :]
        sector = at // SECTOR * SECTOR
        piece, within = divmod(sector, self._root_piece)
        self._write(self._root_at[piece] + within, self._root[sector : sector + SECTOR])

    def _write(self, offset, data):
        self._file.seek(self.start + offset)
        view = memoryview(data)
        while view:
            view = view[self._file.write(view) :]


def is_block_device(path):
    try:
        return stat.S_ISBLK(os.stat(path).st_mode)
    except OSError:
        return False


class Disk:
    """A card as a block device, or an image of one in a file."""

    def __init__(self, path, write=True):
        self.path = Path(path)
        # Windows would else change line ends within what is read and written.
        flags = (os.O_RDWR if write else os.O_RDONLY) | getattr(os, "O_BINARY", 0)
        if write and is_block_device(path):
            flags |= os.O_EXCL  # fails while a partition of it is mounted
        try:
            self._file = os.fdopen(os.open(path, flags), "r+b" if write else "rb", buffering=0)
        except OSError as error:
            hints = {
                errno.EBUSY: "; eject it first (macOS: diskutil unmountDisk), or name the folder where it is mounted",
                errno.EROFS: "; the card is write-protected: look at the slider at its edge",
                errno.EACCES: "; as administrator (sudo), or name the folder or drive letter where it is mounted",
            }
            raise Error(f"{path}: {error.strerror}{hints.get(error.errno, '')}") from None
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
        full_sync(self._file.fileno())
        # What is read from now on is the card's own, not what the kernel remembers of it.
        if hasattr(os, "posix_fadvise"):
            os.posix_fadvise(self._file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)

    def size(self, path):
        return self.fat.extent(path)[1]

    def selection(self):
        return Selection.parse(self.fat.get(SELECT) or b"")

    def misplaced(self):
        """Whether the box would not find select.txt where that says that it lies."""
        found, places = self.fat.get(SELECT), self._places()
        selected = self.selection()
        return len(found) != SECTOR or (selected.sector, selected.errors) != places

    def _places(self):
        """As the box counts: from the beginning of the partition."""
        return tuple((self.fat.extent(name)[0] - self.fat.start) // SECTOR for name in (SELECT, ERRORS))

    def repair(self):
        selected = self.selection()
        if self.fat.find(SELECT)[1] != SECTOR:
            self.fat.set_size(SELECT, SECTOR)
        sector, errors = self._places()
        self.write(SELECT, selected._replace(sector=sector, errors=errors).text().encode())
        self.sync()

    def get(self, name):
        return self.fat.get(name)

    def put(self, name, data):
        self.fat.put(name, data)

    def remove(self, name):
        self.fat.remove(name)

    def shipped(self, name):
        try:
            return self.read(f"{SHIPPED}/{name}")
        except Error:
            return None


def full_sync(number):
    """Until the card itself has it: macOS's fsync leaves it in the drive's own memory."""
    if hasattr(fcntl, "F_FULLFSYNC"):
        try:
            fcntl.fcntl(number, fcntl.F_FULLFSYNC)
            return
        except OSError:
            pass  # a file system without it
    os.fsync(number)


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
            full_sync(file.fileno())

    def sync(self):
        # Windows has none: there each file has been written through already.
        if hasattr(os, "sync"):
            os.sync()

    def size(self, path):
        return (self.path / path).stat().st_size

    def selection(self):
        return Selection.parse(self.read(SELECT))

    def misplaced(self):
        """As far as it can be seen from here. Where else the file lies now, the box finds out."""
        data, selected = self.read(SELECT), self.selection()
        return len(data) != SECTOR or 0 in selected[2:]

    def repair(self):
        selected = self.selection()
        with open(self.path / SELECT, "r+b") as file:
            file.write(selected.text().encode())
            file.truncate(SECTOR)
            file.flush()
            full_sync(file.fileno())

    def get(self, name):
        path = self.path / name
        return path.read_bytes() if path.exists() else None

    def put(self, name, data):
        with open(self.path / name, "wb") as file:
            file.write(data)
            file.flush()
            full_sync(file.fileno())

    def remove(self, name):
        if (self.path / name).exists():
            (self.path / name).unlink()

    def shipped(self, name):
        return self.get(f"{SHIPPED}/{name}")


def open_card(path, write=True):
    """`path`: a folder, a block device, an image file; on Windows a drive letter (E:) or \\\\.\\PhysicalDrive2."""
    if re.fullmatch(r"[A-Za-z]:", str(path)):
        # By itself it would be that drive's current folder.
        path = f"{path}\\"
    # os.path's answer for a drive of Windows' that may not be looked at is no, and no error.
    return Folder(path) if os.path.isdir(path) else Disk(path, write)
