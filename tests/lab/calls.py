"""What a video call costs: the instructions of all processes of the camera's side, in an instruction-counting guest.

The same MJPEG camera and the same callee twice: once camd serves the call, once the original way does, which is ffmpeg and
a Qt program (original.cpp). Beside that, what each does with one picture alone: from the camera's JPEG to the text.
"""

import base64

from bench import camera, plug_in_camera
from guest import NS_PER_INSTRUCTION, Guest, GuestError

FPS = 5  # of the call
CAMERA_FPS = 30
WARMUP_FRAMES = 10
FRAMES = 50
ROUNDS = 3  # over the camera's pictures, for the work on one alone
LIMIT = 1 / 5  # camd may cost that much of the original
PORT = 8083

# The call's keys are camd's defaults.
CONFIG = f"""{camera(CAMERA_FPS)}
[[listener]]
protocol = "call"
bind = "127.0.0.1:{PORT}"
"""

# For each way: the names of its processes, the command, the callee's part and port, and whether it is there first.
WAYS = {
    "original": ("original ffmpeg", "original call /dev/video0 127.0.0.1 8084", "listen 8084", True),
    "camd": ("camd", "camd --config /etc/camd.toml", f"ring {PORT}", False),
}


def size(jpeg):
    """Width and height of a JPEG."""
    at = 2
    while jpeg[at + 1] not in (0xC0, 0xC1, 0xC2):
        at += 2 + int.from_bytes(jpeg[at + 2 : at + 4])
    return int.from_bytes(jpeg[at + 7 : at + 9]), int.from_bytes(jpeg[at + 5 : at + 7])


def call(guest, way):
    """Million instructions per picture of a whole call, and characters of a picture."""
    names, command, part, callee_first = WAYS[way]
    callee = f"timeout 60 callee {part} {WARMUP_FRAMES} {FRAMES} /run/picture {names} >/run/callee.out 2>&1"
    start = f"{command} >/run/{way}.log 2>&1 & echo $! >/run/{way}.pid"
    listening = f"netstat -ltn | grep -q ':{part.split()[1]} '"
    try:
        if callee_first:
            guest.run(f"({callee}; echo $? >/run/callee.code) &")
            guest.wait_for(listening, 30, "the callee listens")
            guest.run(start)
        else:
            guest.run(start)
            guest.wait_for(listening, 30, f"{way} listens")
            guest.run(f"({callee}; echo $? >/run/callee.code) &")
        guest.wait_for("[ -s /run/callee.code ]", 300, "the call's end")
        output = guest.run("cat /run/callee.out")
        if guest.run("cat /run/callee.code").strip() != "0":
            raise GuestError(f"the callee says: {output}")
    except GuestError as error:
        log = guest.try_run(f"tail -n 20 /run/{way}.log")[1]
        raise GuestError(f"{way}: {error}\n{log}") from None
    finally:
        # Wait until all are gone: the next needs the device.
        guest.try_run(
            f"rm -f /run/callee.code; kill $(cat /run/{way}.pid); "
            f"for p in {names}; do while pidof $p >/dev/null; do sleep 0.1; done; done",
            timeout=60,
        )
    pictures, characters, nanoseconds, seconds = output.split()
    rate = int(pictures) / float(seconds)
    if not 0.9 * FPS < rate < 1.1 * FPS:
        raise GuestError(f"{way} gave {rate:.1f} pictures a second of {FPS}")
    found = size(base64.b64decode(guest.run("cat /run/picture")))
    if found != (160, 120):
        raise GuestError(f"{way}'s picture is {found}")
    return int(nanoseconds) / NS_PER_INSTRUCTION / int(pictures) / 1e6, int(characters) / int(pictures)


def run(lab, camd, pictures, log):
    """Returns (table, camd's part of the original's cost)."""
    with Guest(lab, [camd, pictures], log, counted=True, folder=lab / "original", memory=1024) as guest:
        alone = {
            "original": f"original picture {ROUNDS} /frames/*.jpg",
            "camd": f"pictures call {ROUNDS} /run/call.jpg /frames/*.jpg",
        }
        for way, command in alone.items():
            alone[way] = int(guest.run(command, timeout=300)) / NS_PER_INSTRUCTION / 1e6
        plug_in_camera(guest, CAMERA_FPS)
        guest.write("/etc/camd.toml", CONFIG)
        whole = {way: call(guest, way) for way in WAYS}
    lines = [
        f"million instructions per picture of a call, {FPS} a second, 160x120 q30, "
        f"from a 640x480 MJPEG camera at {CAMERA_FPS} fps",
        f"{'':10}{'all processes':>15}{'JPEG to text alone':>20}{'characters':>12}",
    ]
    for way in WAYS:
        cost, characters = whole[way]
        lines.append(f"{way:10}{cost:15.2f}{alone[way]:20.2f}{characters:12.0f}")
    ratio = whole["camd"][0] / whole["original"][0]
    lines.append(f"{'camd of it':10}{ratio:15.3f}{alone['camd'] / alone['original']:20.3f}")
    return "\n".join(lines) + "\n", ratio
