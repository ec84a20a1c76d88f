"""What a picture costs on armv7 that a cell makes, beside one that camd makes itself, in an instruction-counting guest.

camd's test pattern, raw, for one viewer; what counts is the time of all of camd's processes, the kernel's part of it included.
"""

from guest import NS_PER_INSTRUCTION, Guest, GuestError

LIMIT = 1.05  # with a cell, camd may cost that much times what it costs without
SIZE = 1280, 720
FPS = 4
SECONDS = 10  # of the guest's time
CONFIG = """
[camera]
source = "pattern"
width = {0}
height = {1}
fps = {fps}
linger_s = 0

[[listener]]
protocol = "http"
bind = "127.0.0.1:8080"

[limits]
cells = {cells}
"""
LOOK = """
cat $(for p in $(pidof camd); do echo /proc/$p/task/*/schedstat; done) | awk '{ s += $1 } END { printf "%.0f\\n", s }'
wget -qO- http://127.0.0.1:8080/metrics | sed -n 's/^camd_camera_frames_total //p'
"""


def measure(guest, cells):
    """Million instructions per picture."""
    guest.write("/run/cells.toml", CONFIG.format(*SIZE, fps=FPS, cells=cells))
    guest.run("camd --config /run/cells.toml >/run/cells.log 2>&1 & echo $! >/run/cells.pid")
    try:
        guest.wait_for("wget -qO- http://127.0.0.1:8080/state >/dev/null", 30, "camd answers")
        guest.run("wget -qO /dev/null http://127.0.0.1:8080/stream & echo $! >/run/viewer.pid; sleep 3", timeout=120)
        processes = len(guest.run("pidof camd").split())
        # camd itself, its broker, and the cells.
        if processes != 2 + cells:
            raise GuestError(f"{processes} processes with cells = {cells}")
        spent, frames = map(int, guest.run(LOOK, timeout=60).split())
        guest.run(f"sleep {SECONDS}", timeout=300)
        spent_then, frames_then = map(int, guest.run(LOOK, timeout=60).split())
    finally:
        guest.try_run(
            "kill $(cat /run/viewer.pid) $(cat /run/cells.pid); while pidof camd >/dev/null; do sleep 0.1; done",
            timeout=60,
        )
    if frames_then - frames < 0.9 * FPS * SECONDS:
        raise GuestError(f"{frames_then - frames} pictures in {SECONDS} s, not {FPS} a second")
    return (spent_then - spent) / NS_PER_INSTRUCTION / (frames_then - frames) / 1e6


def run(lab, camd, log):
    """Returns (table, how much more it costs with a cell)."""
    with Guest(lab, [camd], log, counted=True) as guest:
        direct, cell = (measure(guest, cells) for cells in (0, 1))
    ratio = cell / direct
    width, height = SIZE
    return f"million instructions per picture of {width}x{height}: {direct:.2f} by camd, {cell:.2f} by a cell ({ratio:.3f})\n", ratio
