"""What making a picture costs on armv7: the cases of `cargo bench --bench codec`, in an instruction-counting guest.

camd's codec and a bare loop over the same libjpeg (tests/bench/work.rs), ffmpeg's libraries (tests/bench/ffmpeg.c; their
JPEG codec is their own) and Debian's OpenCV on libjpeg-turbo (tests/bench/opencv.cpp). All use NEON but for OpenCV's own
loops, which Debian builds without.
"""

from guest import NS_PER_INSTRUCTION, Guest

FRAMES = 5
LIMIT = 1.1  # camd may cost that much times the bare loop
LARGER = 1.1  # bytes of a JPEG of others for one of camd's, at most: else they would do more


def run(lab, program, log):
    """Returns (table, what is wrong)."""
    lines, wrong = [], []
    # All of OpenCV's libraries are in memory twice while it boots.
    with Guest(lab, [program], log, counted=True, folder=lab / "others", memory=1024) as guest:
        lines.append("million instructions per picture (camd's share of it; bytes)")
        for number, case in enumerate(guest.run("pictures cases").splitlines()):
            kind, width, height, to_width, to_height, quality, qscale, eighths, same, name = case.split(" ", 9)
            guest.run(f"pictures input {number} /run/input")
            sizes = f"/run/input {kind} {width} {height} {to_width} {to_height}"
            commands = {
                "camd": f"pictures camd {number}",
                "bare": f"pictures bare {number}",
                "ffmpeg": f"picture-ffmpeg {sizes} {qscale} {eighths}",
                "opencv": f"picture-opencv {sizes} {quality} {eighths}",
            }
            cost, size = {}, {}
            for who, command in commands.items():
                output = guest.run(f"{command} {FRAMES} /run/{who}.jpg && wc -c </run/{who}.jpg", timeout=120)
                nanoseconds, size[who] = map(int, output.split())
                cost[who] = nanoseconds / NS_PER_INSTRUCTION / FRAMES / 1e6
            row = f"{name:36}"
            for who in commands:
                row += f"  {who} {cost[who]:6.2f} ({cost['camd'] / cost[who]:.3f}; {size[who]})"
            lines.append(row)
            if same == "1" and cost["camd"] > LIMIT * cost["bare"]:
                wrong.append(f"{name}: camd costs {cost['camd'] / cost['bare']:.2f} x libjpeg alone")
            for other in ("ffmpeg", "opencv"):
                if cost["camd"] >= cost[other]:
                    wrong.append(f"{name}: camd costs {cost['camd'] / cost[other]:.2f} x {other}")
                if size[other] > LARGER * size["camd"]:
                    wrong.append(f"{name}: {other}'s JPEG has {size[other]} bytes, camd's {size['camd']}")
    return "\n".join(lines) + "\n", wrong
