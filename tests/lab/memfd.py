"""What a reader of shared memory costs camd: instructions per reader and frame, in an instruction-counting guest.

What a frame costs is measured with one reader, with some and with many, each a process that sleeps until camd tells it of
a picture (guest/readers.c). What they differ by, for each reader that they differ by, is a reader's share: waking it up,
and nothing else.
"""

from bench import FPS, FRAMES, WARMUP_FRAMES, camera, plug_in_camera
from guest import NS_PER_INSTRUCTION, Guest, GuestError

READERS = (1, 8, 32)
LIMIT = 3000
SOCKET = "/run/frames.sock"

CONFIG = f"""{camera(FPS)}
[[listener]]
protocol = "http"
bind = "127.0.0.1:8080"

[[sink]]
kind = "memfd"
socket = "{SOCKET}"
readers = {max(READERS)}
"""


def measure(guest, readers):
    """Instructions of camd per frame."""
    guest.run("camd --config /etc/camd.toml >/run/camd.log 2>&1 & echo $! >/run/camd.pid")
    try:
        guest.wait_for(f"test -S {SOCKET}", 30, "camd's socket")
        command = f"timeout 120 readers {SOCKET} {readers} {WARMUP_FRAMES} {FRAMES} $(cat /run/camd.pid)"
        nanoseconds, seconds = guest.run(command, timeout=300).split()
    except GuestError as error:
        log = guest.try_run("tail -n 20 /run/camd.log")[1]
        raise GuestError(f"{readers} readers: {error}\n{log}") from None
    finally:
        # Wait until it is gone: the next one needs the device and the socket.
        guest.try_run("p=$(cat /run/camd.pid); kill $p; while kill -0 $p; do sleep 0.1; done", timeout=30)
    rate = FRAMES / float(seconds)
    if not 0.9 * FPS < rate < 1.1 * FPS:
        raise GuestError(f"{readers} readers got {rate:.1f} pictures a second of {FPS}")
    return int(nanoseconds) / NS_PER_INSTRUCTION / FRAMES


def run(lab, camd, log):
    """Returns (table, instructions per reader and frame at worst)."""
    with Guest(lab, [camd], log, counted=True) as guest:
        plug_in_camera(guest, FPS)
        guest.write("/etc/camd.toml", CONFIG)
        cost = {readers: measure(guest, readers) for readers in READERS}
    first = READERS[0]
    lines = ["readers  instructions per frame  per further reader"]
    shares = []
    for readers in READERS:
        row = f"{readers:7}{cost[readers]:24,.0f}"
        if readers != first:
            shares.append((cost[readers] - cost[first]) / (readers - first))
            row += f"{shares[-1]:20,.0f}"
        lines.append(row)
    # A reader that costs nothing was not there.
    if min(shares) <= 0:
        raise GuestError("further readers cost nothing: " + "; ".join(lines))
    return "\n".join(lines) + "\n", max(shares)
