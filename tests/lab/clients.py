"""Clients of camd's three protocols on the host, and what they demand of each picture.

They are strict where a real client may be lenient: every byte between the pictures must be what the protocol says, and
every picture a whole JPEG. A client connects once. When its connection ends, or anything is wrong, it stops and keeps
the reason in `error`.
"""

import http.client
import re
import socket
import subprocess
import threading
import time

PULL_PART = 1380


class ProtocolError(Exception):
    pass


def jpeg_size(data):
    """(width, height) of a whole JPEG. Raises when it is cut off, or more than one JPEG."""
    if data[:2] != b"\xff\xd8":
        raise ProtocolError(f"a picture begins with {data[:4].hex()}, not with SOI")
    if data[-2:] != b"\xff\xd9":
        raise ProtocolError(f"a picture of {len(data)} bytes ends with {data[-4:].hex()}, not with EOI")
    size, at = None, 2
    while True:
        if at + 4 > len(data) or data[at] != 0xFF:
            raise ProtocolError(f"no marker at byte {at} of {len(data)}")
        marker, length = data[at + 1], int.from_bytes(data[at + 2 : at + 4], "big")
        if 0xC0 <= marker <= 0xC2:
            size = int.from_bytes(data[at + 7 : at + 9], "big"), int.from_bytes(data[at + 5 : at + 7], "big")
        at += 2 + length
        if marker == 0xDA:
            break
    # In entropy-coded data 0xFF is followed by 0 or a restart marker. The first that is not must be the last EOI.
    end = re.compile(rb"\xff[^\x00\xd0-\xd7]").search(data, at)
    if not end or end.start() != len(data) - 2:
        raise ProtocolError(f"a picture of {len(data)} bytes has a marker in its scan at {end and end.start()}")
    if not size:
        raise ProtocolError("a picture without a frame header")
    return size


def gray(pictures, size):
    """Decodes JPEGs with ffmpeg, which must find nothing wrong with them. Returns their luma, a byte per pixel."""
    ffmpeg = subprocess.run(
        ["ffmpeg", "-v", "warning", "-xerror", "-err_detect", "explode", "-f", "image2pipe", "-c:v", "mjpeg", "-i", "-",
         "-fps_mode", "passthrough", "-f", "rawvideo", "-pix_fmt", "gray", "-"],
        input=b"".join(pictures), capture_output=True, timeout=60,
    )  # fmt: skip
    # The one remark that is about ffmpeg and not about the picture: full-range JPEG is called deprecated by swscale.
    remarks = [
        line for line in ffmpeg.stderr.decode(errors="replace").splitlines() if "deprecated pixel format" not in line
    ]
    area = size[0] * size[1]
    if ffmpeg.returncode or remarks or len(ffmpeg.stdout) != len(pictures) * area:
        raise ProtocolError(
            f"ffmpeg made {len(ffmpeg.stdout) / area:.2f} pictures of {len(pictures)}: {' '.join(remarks)}"
        )
    return [ffmpeg.stdout[at : at + area] for at in range(0, len(ffmpeg.stdout), area)]


def decode(pictures, size):
    """Decodes JPEGs. Returns the number of different pictures."""
    return len(set(gray(pictures, size)))


class LabCamera:
    """Knows the pictures of guest/mjpegcam.c: tells the number of one, and whether it is byte for byte as made."""

    COMMENT = re.compile(rb"\xff\xd8\xff\xfe\x00\x15camd-lab ([0-9]{10})")

    def __init__(self, folder):
        self._pictures = [path.read_bytes() for path in sorted(folder.glob("*.jpg"))]

    def number(self, data):
        """None for a picture that the camera did not make ("no picture")."""
        comment = self.COMMENT.match(data)
        if not comment:
            return None
        number = int(comment[1])
        if data[comment.end() :] != self._pictures[number % len(self._pictures)][2:]:
            raise ProtocolError(f"picture {number} is not as the camera made it")
        return number


class Viewer:
    """One client, reading as fast as it can in its own thread until `close`."""

    KEPT = 6  # pictures kept for `decode`

    def __init__(self, name, port, camera=None):
        self.name = name
        self.error = None
        self.in_order = True  # demand rising picture numbers; not while the camera is restarted
        self._camera = camera
        self._last_number = -1
        self._closing = False
        self._lock = threading.Lock()
        self.mark()
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=60)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._input = self._socket.makefile("rb", buffering=65536)
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def mark(self):
        """Forgets the pictures so far."""
        with self._lock:
            self._since = time.monotonic()
            self._total = 0
            self._distinct = set()
            self._sizes = set()
            self._last = []

    def close(self):
        self._closing = True
        self._socket.shutdown(socket.SHUT_RDWR)
        self._thread.join(10)
        self._input.close()
        self._socket.close()

    def moving(self):
        """How many different pictures came since `mark`, with an MJPEG camera only the camera's own."""
        with self._lock:
            return len(self._distinct)

    def total(self):
        with self._lock:
            return self._total

    def rate(self):
        with self._lock:
            return self._total / (time.monotonic() - self._since)

    def sizes(self):
        with self._lock:
            return set(self._sizes)

    def last(self):
        with self._lock:
            return list(self._last)

    def _run(self):
        try:
            self.read()
        except Exception as error:  # whatever it is, the test must hear of it
            if not self._closing:
                self.error = f"{type(error).__name__}: {error}"

    def _exactly(self, count):
        data = self._input.read(count)
        if len(data) != count:
            raise ProtocolError(f"the connection ended after {len(data)} of {count} bytes")
        return data

    def _picture(self, data):
        size = jpeg_size(data)
        key = data
        if self._camera:
            key = self._camera.number(data)
            if key is not None:
                # Equal is wrong too: no client gets the same frame twice.
                if key <= self._last_number and self.in_order:
                    raise ProtocolError(f"picture {key} came after {self._last_number}")
                self._last_number = key
        with self._lock:
            self._total += 1
            self._sizes.add(size)
            if key is not None:
                self._distinct.add(hash(key))  # hashes, as these are megabytes
            self._last = [*self._last[1 - self.KEPT :], data]


class HttpViewer(Viewer):
    def read(self):
        self._socket.sendall(b"GET /stream HTTP/1.1\r\nHost: localhost\r\n\r\n")
        status, headers = self._head()
        if status.split()[1:2] != ["200"]:
            raise ProtocolError(status)
        kind = re.fullmatch(r'multipart/x-mixed-replace;\s*boundary="?([^"]+)"?', headers.get("content-type", ""))
        if not kind:
            raise ProtocolError(f"Content-Type {headers.get('content-type')}")
        boundary = b"--" + kind[1].encode() + b"\r\n"
        if self._exactly(len(boundary)) != boundary:
            raise ProtocolError("the stream does not begin with its boundary")
        while True:
            _, part = self._head(status_line=False)
            if part.get("content-type") != "image/jpeg" or "x-timestamp" not in part:
                raise ProtocolError(f"part's head {part}")
            self._picture(self._exactly(int(part["content-length"])))
            # Right after the picture, before the next one exists: a browser draws a part only when it sees its end.
            tail = self._exactly(2 + len(boundary))
            if tail != b"\r\n" + boundary:
                raise ProtocolError(f"{tail!r} in place of the boundary")

    def _head(self, status_line=True):
        status, headers = "", {}
        if status_line:
            status = self._line()
        while line := self._line():
            name, _, value = line.partition(":")
            headers[name.lower()] = value.strip()
        return status, headers

    def _line(self):
        line = self._input.readline(4096)
        if not line.endswith(b"\r\n"):
            raise ProtocolError(f"the connection ended in a head: {line!r}")
        return line[:-2].decode("ascii")


class PushViewer(Viewer):
    def read(self):
        while True:
            header = self._exactly(8)
            length, again = int.from_bytes(header[:4], "little"), int.from_bytes(header[4:], "little")
            if length != again or not 0 < length <= 1 << 20:
                raise ProtocolError(f"header {header.hex()}")
            self._picture(self._exactly(length))


class PullViewer(Viewer):
    def read(self):
        while True:
            self._socket.sendall(b"new_request")
            # There is no terminator: what ends the number is that the server says nothing more before an ack.
            announced = self._socket.recv(64)
            match = re.fullmatch(rb"newImage:([0-9]+)", announced)
            if not match:
                raise ProtocolError(f"{announced!r} in place of an announcement")
            left, data = int(match[1]), b""
            while left:
                self._socket.sendall(b"ack")
                part = self._exactly(min(left, PULL_PART))
                left -= len(part)
                data += part
            self._picture(data)

    def _exactly(self, count):
        # Not through the buffered file: nothing may come before it was asked for.
        data = b""
        while len(data) < count:
            more = self._socket.recv(65536)
            if not more:
                raise ProtocolError(f"the connection ended after {len(data)} of {count} bytes")
            data += more
        if len(data) > count:
            raise ProtocolError(f"{len(data) - count} bytes came without an ack")
        return data


def get(port, path, timeout=20):
    """One HTTP request: (status, headers, body)."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        return response.status, response.headers, response.read()
    finally:
        connection.close()
