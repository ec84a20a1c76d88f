"""A camera that gives H.264, and has the time in its picture: clock.py WIDTH HEIGHT FPS KEY [FILE].

At the top stand 16 blocks: the bits of the time since 1970 in ms, the lowest one first, white for 1. What is below them moves, and
costs about as much as a scene. KEY: pictures from one key picture to the next. FILE: where another width may be written meanwhile.
"""

import random
import subprocess
import sys
import time

BLOCKS, TALL = 16, 32


def encoder(width, height, fps, key):
    return subprocess.Popen(
        ["ffmpeg", "-v", "error", "-f", "rawvideo", "-pix_fmt", "gray", "-s", f"{width}x{height}", "-r", fps, "-i", "-",
         "-pix_fmt", "yuv420p", "-c:v", "libx264", "-preset", "ultrafast", "-tune", "zerolatency", "-threads", "1", "-g", key,
         "-flush_packets", "1", "-f", "h264", "-"],
        stdin=subprocess.PIPE,
    )  # fmt: skip


def scenes(width, height):
    """What is below the clock: lines that are all alike, each a bit further on."""
    line = random.Random(1).randbytes(width).translate(bytes(90 + it // 4 for it in range(256)))
    for step in range(0, 96, 3):
        turned = [(step + y) % width for y in range(TALL, height)]
        yield b"".join(line[at:] + line[:at] for at in turned)


def clock(width):
    now = int(time.time() * 1000)
    bits = b"".join((b"\xeb" if now >> bit & 1 else b"\x10") * (width // BLOCKS) for bit in range(BLOCKS))
    return bits.ljust(width, b"\x10") * TALL


def wanted(path, width):
    try:
        with open(path) as file:
            return int(file.read() or width)
    except OSError:
        return width


def main():
    width, height = map(int, sys.argv[1:3])
    fps, key = sys.argv[3:5]
    file = sys.argv[5] if len(sys.argv) > 5 else None
    began, number = time.monotonic(), 0
    while True:
        films, below = encoder(width, height, fps, key), list(scenes(width, height))
        now = width
        while now == width:
            films.stdin.write(clock(width) + below[number % len(below)])
            films.stdin.flush()
            number += 1
            time.sleep(max(began + number / int(fps) - time.monotonic(), 0))
            if file:
                now = wanted(file, width)
        # Up to the last picture, whole.
        films.stdin.close()
        films.wait()
        width = now


main()
