"""What a picture costs: instructions of the server per client and frame, in an instruction-counting guest.

Three servers show the same camera to the same reader: the least possible program (guest/least.c), ustreamer, and
camd. The guest runs 500 million instructions a second whatever the host does, so the figures repeat to well under
one percent on a busy machine, and a limit can be strict. Each row has a guest of its own: what the kernel has learned
of its connections to this reader (TCP metrics, ksoftirqd's turns) changes what the next server costs. Before the first
server of a row there is one that is not measured, for the same reason.
"""

from guest import NS_PER_INSTRUCTION, Guest, GuestError

FPS = 15
WARMUP_FRAMES = 45  # camd looks closer at a stream's first pictures
FRAMES = 60
# camd may cost that much times the least possible program. What it has to do once for each picture (waiting in epoll, a
# deadline, the part's head, what makes sure that the JPEG is whole) is some 5,000 instructions of its own, and 1,200 for
# each client. 1.10, 1.054 and 1.045 were measured at 1, 4 and 8. That is without its sandbox: the other programs have none.
LIMITS = {1: 1.13, 4: 1.07, 8: 1.055, 16: 1.05, 32: 1.05, 64: 1.05}
CLIENTS = tuple(LIMITS)
# What the kernel may take for the sandbox, in thousand instructions: for each picture, and for each client beside. Linux goes
# a longer way into each system call of a process that has a filter, and looks at its rules where they depend on an
# argument (ioctl). 2.0 to 2.5 were measured at 1 client, 0.2 for each of 16 and more.
SANDBOX = (2.6, 0.3)
PORT = 8080


def camera(fps):
    """The MJPEG camera in camd's configuration."""
    return f"""
[camera]
device = "/dev/video0"
width = 640
height = 480
fps = {fps}
format = "mjpeg"
"""


def plug_in_camera(guest, fps):
    guest.run("modprobe v4l2loopback devices=1 video_nr=0 exclusive_caps=1 max_buffers=8")
    guest.run(f"mjpegcam /dev/video0 640 480 {fps} /frames/*.jpg >/run/mjpegcam.log 2>&1 &")


CONFIG = f"""{camera(FPS)}
[[listener]]
protocol = "http"
bind = "0.0.0.0:{PORT}"
clients = {max(CLIENTS)}
"""
OPEN = CONFIG + "[limits]\nsandbox = false\n"

SERVERS = {
    "least": ("/", f"least /dev/video0 {PORT} %d"),
    "ustreamer": ("/stream", f"ustreamer -d /dev/video0 -r 640x480 -m MJPEG -b 5 --host 0.0.0.0 --port {PORT}"),
    "camd": ("/stream", "camd --config /etc/camd.toml"),
    "no sandbox": ("/stream", "camd --config /etc/open.toml"),
}


def measure(guest, server, clients):
    """Thousand instructions of the server per client and frame."""
    path, command = SERVERS[server]
    command = command.replace("%d", str(clients))
    guest.run(f"{command} >/run/server.log 2>&1 & echo $! >/run/server.pid")
    try:
        guest.wait_for(f"netstat -ltn | grep -q ':{PORT} '", 30, f"{server} listens")
        output = guest.run(
            f"timeout 120 drain {PORT} {path} {clients} {WARMUP_FRAMES} {FRAMES} $(cat /run/server.pid) "
            "$(pidof ksoftirqd/0)",
            timeout=300,
        )
    except GuestError as error:
        log = guest.try_run("tail -n 20 /run/server.log")[1]
        raise GuestError(f"{server} with {clients} clients: {error}\n{log}") from None
    finally:
        # Wait until it is gone: the next server needs the device and the port.
        guest.try_run("p=$(cat /run/server.pid); kill $p; while kill -0 $p; do sleep 0.1; done", timeout=30)
    delivered, nanoseconds, seconds = output.split()
    rate = int(delivered) / clients / float(seconds)
    if not 0.9 * FPS < rate < 1.1 * FPS:
        raise GuestError(f"{server} with {clients} clients gave {rate:.1f} pictures a second of {FPS}")
    return int(nanoseconds) / NS_PER_INSTRUCTION / int(delivered) / 1000


def run(lab, camd, log):
    """Returns (table, {clients: ratio of camd without its sandbox to least}, {clients: what the sandbox takes of each client}).
    Without `camd`, the other two servers only, and no figures."""
    servers = [name for name, (_, command) in SERVERS.items() if camd or not command.startswith("camd ")]
    cost = {}
    for clients in CLIENTS:
        with Guest(lab, [camd] if camd else [], log, counted=True) as guest:
            plug_in_camera(guest, FPS)
            guest.write("/etc/camd.toml", CONFIG)
            guest.write("/etc/open.toml", OPEN)
            measure(guest, "least", clients)
            for server in servers:
                cost[server, clients] = measure(guest, server, clients)
    lines = ["server: thousand instructions per client and frame (ratio to least), 640x480 MJPEG"]
    lines.append("clients" + "".join(f"{server:>18}" for server in servers))
    for clients in CLIENTS:
        row = f"{clients:7}"
        for server in servers:
            ratio = cost[server, clients] / cost["least", clients]
            row += f"{cost[server, clients]:10.1f} ({ratio:.2f})".rjust(18)
        lines.append(row)
    table = "\n".join(lines) + "\n"
    if not camd:
        return table, {}, {}
    ratios = {clients: cost["no sandbox", clients] / cost["least", clients] for clients in CLIENTS}
    return table, ratios, {clients: cost["camd", clients] - cost["no sandbox", clients] for clients in CLIENTS}
