"""H.264 that x264 makes on the host, and what clients on the host get of it from camd: each picture byte for byte."""

import re
import socket
import subprocess
import time

from checks import Failure, check

SIZE, FPS, DISTANCE, PICTURES = (160, 120), 12, 6, 18
# By what is different about them, with more of x264's parameters.
KINDS = {
    "baseline": ("baseline", ""),
    "main": ("main", ""),
    "high": ("high", ":8x8dct=1"),
    "slices, delimiters": ("main", ":slices=4:aud=1"),
}
SLICE, IDR, SPS, PPS, AUD = 1, 5, 7, 8, 9


def encode(profile, more="", size=SIZE, b_pictures=0):
    """A short moving film as x264 writes it."""
    parameters = f"keyint={DISTANCE}:min-keyint={DISTANCE}:scenecut=0:bframes={b_pictures}:b-adapt=0{more}"
    command = [
        "ffmpeg", "-v", "error", "-f", "lavfi", "-i", f"testsrc2=size={size[0]}x{size[1]}:rate={FPS}",
        "-frames:v", str(PICTURES), "-c:v", "libx264", "-preset", "veryfast", "-crf", "32", "-pix_fmt", "yuv420p",
        "-profile:v", profile, "-x264-params", parameters, "-f", "h264", "-",
    ]  # fmt: skip
    return subprocess.run(command, check=True, capture_output=True, timeout=60).stdout


def nals(stream):
    """(where its start code begins, NAL unit), for each."""
    codes = list(re.finditer(rb"\0?\0\0\x01", stream))
    ends = [code.start() for code in codes[1:]] + [len(stream)]
    return [(code.start(), stream[code.end() : end]) for code, end in zip(codes, ends, strict=True)]


def kind(nal):
    return nal[0] & 31


def access_units(stream):
    """The bytes of each picture, with what stands in front of it."""
    starts, has_slice = [0], False
    for at, nal in nals(stream):
        is_slice = kind(nal) in (SLICE, IDR)
        # first_mb_in_slice is 0, which is coded as a single 1.
        begins = nal[1] & 0x80 if is_slice else True
        if has_slice and begins:
            starts.append(at)
            has_slice = False
        has_slice |= is_slice
    return [stream[start:end] for start, end in zip(starts, starts[1:] + [len(stream)], strict=True)]


def sample(unit):
    """What of a picture goes out: all but parameter sets and delimiters."""
    return [nal for _, nal in nals(unit) if kind(nal) not in (SPS, PPS, AUD)]


def show(guest, units, size=SIZE):
    """Starts the camera with these pictures."""
    records = b"".join(len(unit).to_bytes(4, "little") + unit for unit in units)
    guest.run("killall -q -9 h264cam; rm -f /run/film")
    for at in range(0, len(records), 16384):
        guest.append("/run/film", records[at : at + 16384])
    start(guest, size)


def start(guest, size=SIZE):
    guest.run(
        f"h264cam /dev/video0 {size[0]} {size[1]} {FPS} /run/film >/run/h264cam.log 2>&1 &\n"
        "sleep 0.5; killall -0 h264cam || { cat /run/h264cam.log; exit 1; }"
    )


class Film:
    """A client of /stream.mp4."""

    def __init__(self, port):
        self.stream = socket.create_connection(("127.0.0.1", port), timeout=60)
        self.stream.sendall(b"GET /stream.mp4 HTTP/1.1\r\nHost: localhost\r\n\r\n")
        self.file = self.stream.makefile("rb")
        self.status = int(self.file.readline().split()[1])
        while (line := self.file.readline()) not in (b"\r\n", b""):
            self.head = line
        self.sets = []

    def next(self):
        """The NAL units of the next picture; None: the film has ended."""
        while True:
            head = self.file.read(8)
            if len(head) < 8:
                return None
            body = self.file.read(int.from_bytes(head[:4], "big") - 8)
            if head[4:] == b"moov":
                self.sets = parameter_sets(body)
            if head[4:] == b"mdat":
                units = []
                while body:
                    length = int.from_bytes(body[:4], "big")
                    units.append(body[4 : 4 + length])
                    body = body[4 + length :]
                return units

    def close(self):
        self.stream.close()


def parameter_sets(moov):
    """Of avcC: one of each."""
    at = moov.index(b"avcC") + 4 + 6
    sets = []
    for _ in range(2):
        length = int.from_bytes(moov[at : at + 2], "big")
        sets.append(moov[at + 2 : at + 2 + length])
        # The number of the next ones stands in between.
        at += 2 + length + 1
    return sets


class Order:
    """Pictures come in the order of the film, which begins anew at its end; after a gap with a key picture."""

    def __init__(self, units):
        self.samples = [sample(unit) for unit in units]
        self.last = None
        self.count = self.gaps = 0

    def take(self, nals):
        following = None if self.last is None else (self.last + 1) % len(self.samples)
        if following is not None and nals == self.samples[following]:
            self.last = following
        else:
            check(nals in self.samples, f"picture {self.count} is none of the camera's: {[nal[:8].hex() for nal in nals]}")
            self.last = self.samples.index(nals)
            check(any(kind(nal) == IDR for nal in nals), f"picture {self.last} came without those on which it leans")
            self.gaps += 1
        self.count += 1


def film(port, units):
    """Gets three rounds of the film, and says how."""
    viewer = Film(port)
    check(viewer.status == 200, f"/stream.mp4 is answered with {viewer.status}")
    order = Order(units)
    while order.count < 3 * len(units):
        nals = viewer.next()
        check(nals is not None, f"the film ended after {order.count} pictures")
        order.take(nals)
    expected = [nal for _, nal in nals_of_first(units) if kind(nal) in (SPS, PPS)]
    check(viewer.sets == expected, f"{viewer.sets} in avcC, not {expected}")
    viewer.close()
    # The first counts as one. A busy host may hold the guest up.
    check(order.gaps <= 3, f"{order.gaps} gaps in {order.count} pictures")
    return f"{order.count} pictures, {order.gaps - 1} gaps"


def nals_of_first(units):
    return nals(units[0])


def raw(port, units, seconds=60):
    """Gets three rounds of the film from a raw listener: with the parameter sets in front of each key picture."""
    wanted = sum(map(len, units)) * 3
    stream = socket.create_connection(("127.0.0.1", port), timeout=seconds)
    got = b""
    deadline = time.monotonic() + seconds
    while len(got) < wanted:
        check(time.monotonic() < deadline, f"{len(got)} bytes of {wanted} within {seconds} s")
        part = stream.recv(65536)
        if not part:
            raise Failure(f"the connection ended after {len(got)} bytes")
        got += part
    stream.close()
    order = Order(units)
    sets = {}
    for unit in units:
        own = [nal for _, nal in nals(unit) if kind(nal) in (SPS, PPS)]
        if own:
            sets[tuple(sample(unit))] = own
    # The last one may not be whole.
    for unit in access_units(got)[:-1]:
        order.take(sample(unit))
        own = [nal for _, nal in nals(unit) if kind(nal) in (SPS, PPS)]
        check(own == sets.get(tuple(sample(unit)), []), f"picture {order.last} has {own} in front")
    check(order.gaps <= 3, f"{order.gaps} gaps in {order.count} pictures")
    return f"{order.count} pictures, {order.gaps - 1} gaps"
