"""Qt programs with a picture in shared memory: qt_shm.py PySide6|PyQt5 KEY COMMAND [ARGUMENT]

Reader and writer are those of the original system without their windows: the same calls in the same order.

read N    reads N pictures that differ, and prints size and hash of each
check N   reads N times, checks length and both checksums of each PNG itself, and prints how many pictures there were
write     shares the files named on stdin, one line each, and prints what became of each; an empty line: leaves
hold      takes the lock, says so, and keeps it
first     tries to attach, says so, and leaves when a line comes
attached  attaches, says so, and leaves when a line comes
"""

import ctypes
import hashlib
import importlib
import struct
import sys
import time
import zlib

binding, key, command = sys.argv[1:4]
core = importlib.import_module(binding + ".QtCore")
QImage = importlib.import_module(binding + ".QtGui").QImage


# Qt 5's enumerations are without a name.
modes = getattr(core.QIODevice, "OpenModeFlag", core.QIODevice)
formats = getattr(QImage, "Format", QImage)
if binding == "PyQt5":
    modes, formats = core.QIODevice, QImage
memory = core.QSharedMemory(key)


def fail(what):
    sys.exit(f"{what}: {memory.errorString()}")


def content():
    pointer = memory.constData()
    if isinstance(pointer, memoryview):
        return bytes(pointer)
    return pointer.asstring(memory.size())


def attach():
    """The original's button is pressed again when that fails."""
    for _ in range(2000):
        if memory.attach():
            return
        time.sleep(0.01)
    fail("attach")


def read():
    """The original reader, to `in >> image`; and the bytes."""
    attach()
    if not memory.lock():
        fail("lock")
    bytes_ = content()
    buffer = core.QBuffer()
    buffer.setData(core.QByteArray(bytes_))
    buffer.open(modes.ReadOnly)
    stream = core.QDataStream(buffer)
    image = QImage()
    stream >> image
    if not memory.unlock():
        fail("unlock")
    if not memory.detach():
        fail("detach")
    return image, bytes_


def pixels(image):
    image = image.convertToFormat(formats.Format_RGB888)
    bits = image.constBits()
    if not isinstance(bits, memoryview):
        bits.setsize(image.bytesPerLine() * image.height())
    bits = bytes(bits)
    lines = [bits[y * image.bytesPerLine():][: 3 * image.width()] for y in range(image.height())]
    return b"".join(lines)


def check_png(data):
    """Everything in it that can be wrong. Returns the pixels."""
    assert data[:12] == b"\0\0\0\1\x89PNG\r\n\x1a\n", data[:12]
    at, chunks = 12, []
    while not chunks or chunks[-1][0] != b"IEND":
        length, kind = struct.unpack(">I4s", data[at : at + 8])
        body = data[at + 8 : at + 8 + length]
        (crc,) = struct.unpack(">I", data[at + 8 + length : at + 12 + length])
        assert crc == zlib.crc32(kind + body), f"torn: the checksum of {kind}"
        chunks.append((kind, body))
        at += 12 + length
    header = dict(chunks)[b"IHDR"]
    width, height, *rest = struct.unpack(">IIBBBBB", header)
    assert rest == [8, 2, 0, 0, 0], rest
    # It checks the Adler-32.
    rows = zlib.decompress(b"".join(body for kind, body in chunks if kind == b"IDAT"))
    assert len(rows) == height * (1 + 3 * width)
    return rows


def say(*words):
    print(*words, flush=True)


if command == "read":
    seen = []
    while len(seen) < int(sys.argv[4]):
        image, _ = read()
        if image.isNull():
            continue
        hash_ = hashlib.sha256(pixels(image)).hexdigest()
        if not seen or seen[-1] != hash_:
            seen.append(hash_)
            say(f"{image.width()}x{image.height()} {hash_}")
        time.sleep(0.005)
elif command == "check":
    hashes, count, null = set(), 0, 0
    while count < int(sys.argv[4]):
        image, data = read()
        if data[:4] == b"\0\0\0\0":
            null += 1
            assert null < 100, "there is only a null image"
            time.sleep(0.01)
            continue
        rows = check_png(data)
        assert not image.isNull(), "Qt does not read it"
        if count % 50 == 0:
            lines = range(0, len(rows), 1 + 3 * image.width())
            assert pixels(image) == b"".join(rows[at + 1 : at + 1 + 3 * image.width()] for at in lines)
        hashes.add(zlib.crc32(rows))
        count += 1
    say(len(hashes))
elif command == "write":
    for line in sys.stdin:
        name = line.strip()
        if not name:
            break
        if memory.isAttached():
            if not memory.detach():
                fail("detach")
        # Files that end with .bin are shared as they are.
        image = QImage(name)
        buffer = core.QBuffer()
        buffer.open(modes.ReadWrite)
        out = core.QDataStream(buffer)
        if name.endswith(".bin"):
            buffer.write(open(name, "rb").read())
        else:
            assert not image.isNull(), name
            out << image
        if not memory.create(buffer.size()):
            say("created failed!", memory.errorString())
            continue
        if not memory.lock():
            fail("lock")
        data = bytes(buffer.data().data())
        size = min(memory.size(), buffer.size())
        pointer = memory.data()
        if isinstance(pointer, memoryview):
            pointer[:size] = data[:size]
        else:
            ctypes.memmove(int(pointer), data, size)
        if not memory.unlock():
            fail("unlock")
        say("shared", name)
    memory.detach()
elif command == "hold":
    attach()
    if not memory.lock():
        fail("lock")
    say("locked")
    time.sleep(600)
elif command == "first":
    assert not memory.attach()
    say("first")
    sys.stdin.readline()
elif command == "attached":
    attach()
    say("attached")
    sys.stdin.readline()
    memory.detach()
else:
    sys.exit(__doc__)
