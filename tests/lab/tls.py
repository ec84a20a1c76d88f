"""What TLS costs: instructions of the server per client and picture, in an instruction-counting guest, against the same over
plain TCP: where the kernel encrypts, and where it has no module `tls`, so that rustls does. The readers are `camd fetch`, in the
guest, too. It also shows that kernel TLS is used, and how many allocations each way makes for its pictures."""

import re
import subprocess
import tempfile
from pathlib import Path

import bench
from guest import NS_PER_INSTRUCTION, Guest, GuestError

FPS = 15
CLIENTS = (1, 4)
PLAIN, SECURE = 8080, 8443
# Seconds of the guest's: the handshakes, and what camd looks closer at in a stream's first pictures; and what is measured.
WARMUP, MEASURED = 4, 6
WAYS = ("plain", "kernel TLS", "rustls")
# Thousand instructions for each KiB of picture beyond plain TCP. 9.1 and 12.7 were measured: ChaCha20-Poly1305 in NEON
# takes some 9 for a byte, and rustls copies what it encrypts.
LIMITS = {"kernel TLS": 11.0, "rustls": 15.0}

CONFIG = f"""{bench.camera(FPS)}
[[listener]]
protocol = "http"
bind = "127.0.0.1:{PLAIN}"
[[listener]]
protocol = "http"
bind = "127.0.0.1:{SECURE}"
tls = true
"""


def sent(guest):
    """Pictures and bytes that all clients have been sent."""
    text = guest.run(f"wget -q -O - http://127.0.0.1:{PLAIN}/metrics")
    sums = [sum(map(float, re.findall(rf"^camd_{name}_total{{.*}} (\S+)$", text, re.M))) for name in ("frames_sent", "bytes_sent")]
    if not all(sums):
        raise GuestError(f"nothing is sent:\n{text}")
    return sums


def worked(guest):
    """Instructions of camd, and of the kernel's thread for its network, and allocations."""
    text = guest.run("for p in $(cat /run/camd.pid) $(pidof ksoftirqd/0); do cat /proc/$p/schedstat; done; hexdump -e '1/4 \"%u\\n\"' -n 4 /tmp/allocations")
    *times, allocations = text.splitlines()
    return sum(int(line.split()[0]) for line in times) / NS_PER_INSTRUCTION, int(allocations)


def measure(lab, camd, counter, way, log):
    """For each number of clients: thousand instructions per client and picture, KiB of a picture, allocations per picture."""
    with Guest(lab, [camd, counter], log, counted=True) as guest:
        bench.plug_in_camera(guest, FPS)
        guest.write("/etc/camd.toml", CONFIG)
        if way == "kernel TLS":
            # As the kernel itself does where its modprobe is where it looks for it.
            guest.run("modprobe -a tls chacha20poly1305 chacha-neon poly1305-arm")
        guest.run("ip link set lo up 2>/dev/null || ifconfig lo 127.0.0.1 up; mkdir -p /run/state\n"
                  "STATE_DIRECTORY=/run/state LD_PRELOAD=/bin/allocations.so RUST_LOG=info camd --config /etc/camd.toml "
                  ">/run/camd.log 2>&1 & echo $! >/run/camd.pid")  # fmt: skip
        guest.wait_for(f"grep -q 'listening: .*:{SECURE}' /run/camd.log", 30, "camd listens")
        said = guest.run("cat /run/camd.log")
        # What is measured is what the row says.
        in_use = re.search(r"TLS: (.*)", said)
        if not in_use or ("rustls encrypts" in in_use[1]) == (way == "kernel TLS"):
            raise GuestError(f"{way} is not in use:\n{said}")
        pin = re.search(r"([0-9A-F]{2}:){31}[0-9A-F]{2}", said)[0]
        url = f"http://127.0.0.1:{PLAIN}/stream" if way == "plain" else f"--fingerprint {pin} https://127.0.0.1:{SECURE}/stream"
        rows = {}
        for clients in CLIENTS:
            guest.run(f"for i in $(seq {clients}); do camd fetch -n 0 -o /dev/null {url} >/run/fetch.$i 2>&1 & done; sleep {WARMUP}")
            pictures, size = sent(guest)
            instructions, allocations = worked(guest)
            guest.run(f"sleep {MEASURED}")
            after, more = worked(guest)
            now, bytes_now = sent(guest)
            guest.run("kill $(pidof camd | tr ' ' '\\n' | grep -vx $(cat /run/camd.pid)); sleep 1")
            pictures, size = now - pictures, (bytes_now - size) / 1024
            if not 0.9 < pictures / clients / MEASURED / FPS < 1.1:
                raise GuestError(f"{way} with {clients} clients: {pictures} pictures in {MEASURED} s\n" + guest.run("cat /run/fetch.1"))
            # The two looks at /metrics are among the allocations: what counts is those for each picture.
            rows[clients] = ((after - instructions) / pictures / 1000, size / pictures, (more - allocations) / pictures)
        return rows


def run(lab, camd, log):
    """Returns (table, what is wrong)."""
    with tempfile.TemporaryDirectory() as folder:
        counter = Path(folder) / "allocations.so"
        compiler = ["arm-linux-gnueabihf-gcc", "-O2", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC"]
        subprocess.run([*compiler, "-o", counter, Path(__file__).parent / "allocations.c"], check=True)
        cost = {way: measure(lab, camd, counter, way, log) for way in WAYS}
    size = cost["plain"][CLIENTS[0]][1]
    lines = [f"TLS: thousand instructions per client and picture (allocations per picture), 640x480 MJPEG of {size:.1f} KiB"]
    lines.append("clients" + "".join(f"{way:>20}" for way in WAYS))
    wrong = []
    for clients in CLIENTS:
        row = f"{clients:7}"
        for way in WAYS:
            thousand, _, allocations = cost[way][clients]
            row += f"{thousand:12.1f} ({allocations:.2f})".rjust(20)
            more = (thousand - cost["plain"][clients][0]) / size
            if way in LIMITS and more > LIMITS[way]:
                wrong.append(f"{way} with {clients} clients costs {more:.1f} thousand instructions a KiB more than plain TCP, not {LIMITS[way]}")
            # rustls allocates, which is said. One in ten pictures is what a look at /metrics or a log line may be.
            if way != "rustls" and allocations > 0.1:
                wrong.append(f"{way} with {clients} clients allocates {allocations:.2f} times for a picture")
        lines.append(row)
    return "\n".join(lines) + "\n", wrong
