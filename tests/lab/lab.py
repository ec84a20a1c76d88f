"""The lab's tests: camd on armv7 with real V4L2 drivers, its clients on this host. See README.md."""

import argparse
import contextlib
import http.client
import json
import re
import sys
import time
from pathlib import Path

import bench
import calls
import cells
import clients
import h264
import memfd
import pictures
import tls
from checks import Failure, Tests, check, wait_until
from clients import HttpViewer, LabCamera, PullViewer, PushViewer, get
from guest import Guest, GuestError

HTTP, PUSH, PULL = 8080, 8081, 8082
RECOVERY_SECONDS = 90  # camd's back-off between two tries to open a camera grows to 10 s, and the host may be busy
REOPENS = 1000
IDLE_SECONDS = 20
WATCHDOG_SECONDS = 15  # the softest that camd leaves as it is
HUNG_SECONDS = 60  # camd's limits::HUNG
M2M_PICTURES = 40
M2M_ROUNDS = 100
WARM_UP, PICTURES = 20, 300

CONFIG = """
[camera]
device = "{device}"
width = {width}
height = {height}
fps = {fps}
format = "{format}"
linger_s = {linger}
{keys}

[[listener]]
protocol = "http"
bind = "0.0.0.0:8080"
clients = 8

[[listener]]
protocol = "push"
bind = "0.0.0.0:8081"
clients = 4

[[listener]]
protocol = "pull"
bind = "0.0.0.0:8082"
clients = 4
"""

# H.264 as a stream of bytes in place of push.
FILM_CONFIG = CONFIG.replace('protocol = "push"', 'protocol = "raw"\ncodec = "h264"')
RAW = PUSH

# A picture of its own for each protocol: as large as the camera's, scaled, and scaled to 1/8 at least.
PROFILES = CONFIG
for protocol, keys in (
    ("http", "quality = 50"),
    ("push", "quality = 80\nwidth = 320\nheight = 200"),
    ("pull", "quality = 30\nwidth = 80\nheight = 60"),
):
    PROFILES = PROFILES.replace(f'protocol = "{protocol}"', f'protocol = "{protocol}"\n{keys}')


class Camera:
    """A driver in the guest that makes /dev/video0, and what it gives."""

    def __init__(self, name, module, format, size, fps):
        self.name, self.module, self.format, self.size, self.fps = name, module, format, size, fps


VIVID = "vivid n_devs=1 node_types=0x1 input_types=0 num_inputs=1"
SINGLE = Camera("vivid single-planar", VIVID, "yuyv", (640, 480), 10)
MULTI = Camera("vivid multi-planar", VIVID + " multiplanar=2", "auto", (640, 480), 10)
# Its HDMI input: other than its webcam, it crops.
HDMI = Camera("vivid, HDMI", VIVID.replace("input_types=0", "input_types=3"), "yuyv", (640, 480), 60)
# Interlaced, as analogue video is.
SVIDEO = Camera("vivid, S-Video", VIVID.replace("input_types=0", "input_types=2"), "yuyv", (720, 576), 25)
LOOPBACK = Camera(
    "v4l2loopback", "v4l2loopback devices=1 video_nr=0 exclusive_caps=1 max_buffers=8", "mjpeg", (640, 480), 15
)
# Its only format then.
FILM = Camera("v4l2loopback", LOOPBACK.module, "auto", h264.SIZE, h264.FPS)
# Faster than a webcam, for what depends on a picture coming at the wrong moment.
HASTY = Camera("v4l2loopback", LOOPBACK.module, "mjpeg", (640, 480), 60)


class Session:
    """One run of camd in the guest, and clients of all three protocols that connect once and stay."""

    def __init__(self, lab, camera, linger=5, device="/dev/video0", keys="", config=CONFIG, options=""):
        self.lab, self.guest, self.camera = lab, lab.guest, camera
        self.viewers = []
        width, height = camera.size
        config = config.format(
            width=width, height=height, fps=camera.fps, format=camera.format, linger=linger, device=device,
            keys=keys,
        )  # fmt: skip
        self.guest.write("/etc/camd.toml", config)
        # The subshell outlives this script and keeps the exit code.
        self.guest.run(
            f"rm -f /run/camd.*; (RUST_LOG=debug camd --config /etc/camd.toml {options} >/run/camd.log 2>&1 & "
            "echo $! >/run/camd.pid; wait $!; echo $? >/run/camd.code) >/dev/null 2>&1 &\n"
            "until [ -s /run/camd.pid ]; do sleep 0.1; done"
        )
        self.pid = int(self.guest.run("cat /run/camd.pid"))
        self.guest.wait_for(f"kill -0 {self.pid} || exit 0; netstat -ltn | grep -q ':{PULL} '", 20, "camd listens")
        check(self.alive(), f"camd ended at start: {self.log()}")

    def port(self, port):
        return self.guest.ports[port]

    def alive(self):
        return self.guest.try_run(f"kill -0 {self.pid}")[0] == 0

    def log(self, lines=15):
        return self.guest.try_run(f"tail -n {lines} /run/camd.log")[1]

    def connect(self, untouched=True):
        """`untouched`: pictures of the MJPEG camera come as it made them."""
        pictures = self.lab.pictures if untouched and self.camera is LOOPBACK else None
        for kind, port, count in ((HttpViewer, HTTP, 3), (PushViewer, PUSH, 2), (PullViewer, PULL, 2)):
            for number in range(1, count + 1):
                name = f"{kind.__name__.removesuffix('Viewer').lower()} {number}"
                self.viewers.append(kind(name, self.port(port), pictures))
        return self

    def leave(self):
        for viewer in self.viewers:
            viewer.close()
        self.viewers = []

    def state(self):
        try:
            status, _, body = get(self.port(HTTP), "/state")
        except (OSError, http.client.HTTPException) as error:
            check(self.alive(), "camd ended")
            raise Failure(f"/state: {error}") from None
        check(status == 200, f"/state is answered with {status}")
        return json.loads(body)["camera"]

    def healthy(self):
        for viewer in self.viewers:
            check(viewer.error is None, f"{viewer.name}: {viewer.error}")
        check(self.alive(), "camd ended")

    def wait_state(self, state, timeout=RECOVERY_SECONDS):
        wait_until(lambda: self.state()["state"] == state, timeout, lambda: f"state {state}: {self.state()}")

    def see(self, different=6):
        """All clients, still on their first connections, see moving, whole pictures. Returns the rates, in words."""
        self.wait_state("live")
        for viewer in self.viewers:
            viewer.mark()

        def figures():
            return ", ".join(f"{v.name}: {v.moving()} different of {v.total()}" for v in self.viewers)

        def seen():
            self.healthy()
            return all(viewer.moving() >= different for viewer in self.viewers)

        wait_until(seen, RECOVERY_SECONDS, lambda: f"{different} different pictures ({figures()}; {self.state()})")
        for viewer in self.viewers:
            check(viewer.sizes() == {self.camera.size}, f"{viewer.name} got pictures of {viewer.sizes()}")
            moved = clients.decode(viewer.last(), self.camera.size)
            check(moved >= 2, f"{viewer.name}: the pictures differ in bytes only")
        return "pictures/s " + ", ".join(f"{viewer.name}: {viewer.rate():.1f}" for viewer in self.viewers)

    def holds_camera(self):
        """Whether camd has a camera open, or a part of one mapped: either keeps the device in use."""
        script = f"ls -l /proc/{self.pid}/fd | cat - /proc/{self.pid}/maps | grep -q /dev/video"
        return self.guest.try_run(script)[0] == 0

    def memory(self):
        """KiB that the process may write to (VmData), of these the heap's, and of the heap those in use."""
        status, smaps = self.guest.run(f"cat /proc/{self.pid}/status; echo =; cat /proc/{self.pid}/smaps").split("=\n")
        [data] = re.findall(r"^VmData:\s*(\d+) kB$", status, re.M)
        [(size, anonymous)] = re.findall(r"\[heap\]\nSize:\s*(\d+) kB\n(?:.*\n)*?Anonymous:\s*(\d+) kB\n", smaps)
        return {"data": int(data), "heap": int(size), "in use": int(anonymous)}

    def stop(self):
        """Ends camd, in order if it can be, and keeps its log."""
        with contextlib.suppress(OSError):
            self.leave()
        self.guest.try_run(
            f"kill {self.pid}; for i in 1 2 3 4 5 6 7 8 9 10; do [ -s /run/camd.code ] && exit; sleep 0.2; done; "
            f"kill -9 {self.pid}"
        )
        with open(self.lab.logs / "camd.log", "a") as log:
            log.write(f"--- {self.camera.name}\n{self.guest.try_run('cat /run/camd.log')[1]}")


class Lab:
    """What tests share: a guest, and a session in it as long as it suits the next test."""

    def __init__(self, folder, camd, examples, group):
        self.folder, self.camd, self.examples = folder, camd, examples
        self.logs = folder / "logs" / group
        self.logs.mkdir(parents=True, exist_ok=True)
        (self.logs / "camd.log").write_text("")
        self.pictures = LabCamera(folder / "frames")
        self.current = None
        self._guest = None
        self._loaded = None

    @property
    def guest(self):
        if not self._guest:
            programs = [self.camd, self.examples / "reopen", self.examples / "m2m"]
            self._guest = Guest(self.folder, programs, self.logs / "console.log", ports=(HTTP, PUSH, PULL))
        return self._guest

    def close(self):
        """Also after a failed test: the next one gets a fresh guest."""
        if self._guest:
            with contextlib.suppress(Exception):
                self.end()
            self._guest.close()
        self._guest = self._loaded = self.current = None

    def explain(self):
        """What a reader of a failed run wants to see."""
        with contextlib.suppress(Exception):
            if self.current:
                print("  camd's log ends:\n" + re.sub("^", "    ", self.current.log(30).rstrip(), flags=re.M))
        with contextlib.suppress(Exception):
            console = (self.logs / "console.log").read_text(errors="replace").splitlines()[-10:]
            print("  the guest's console ends:\n" + "\n".join("    " + line for line in console), flush=True)

    def end(self):
        """Ends the session, if one runs."""
        if self.current:
            session, self.current = self.current, None
            session.stop()

    def unload(self):
        self.end()
        if self._loaded:
            self.guest.run("killall -q -9 mjpegcam h264cam; true")
            # Fails if anything still holds the device.
            self.guest.run(f"rmmod {self._loaded.module.split()[0]}")
        self._loaded = None

    def load(self, camera):
        if self._loaded is not camera:
            self.unload()
            self.insert(camera)

    def insert(self, camera):
        """Loads a driver when none is loaded, under a session that may run already."""
        self.guest.run(f"modprobe {camera.module} && until [ -c /dev/video0 ]; do sleep 0.1; done")
        self._loaded = camera

    def write_pictures(self, camera=LOOPBACK):
        """Starts the MJPEG camera's writer."""
        width, height = camera.size
        self.guest.run(
            f"mjpegcam /dev/video0 {width} {height} {camera.fps} /frames/*.jpg >/run/mjpegcam.log 2>&1 &\n"
            "sleep 0.5; killall -0 mjpegcam || { cat /run/mjpegcam.log; exit 1; }"
        )

    def stop_pictures(self):
        self.guest.run("killall -9 mjpegcam")

    def start(self, camera, **options):
        """A new run of camd without clients. The device is as it is."""
        self.end()
        self.current = Session(self, camera, **options)
        return self.current

    def session(self, camera):
        """A session with a live picture: the running one, so that clients stay through many tests, or a new one."""
        if not (self.current and self.current.camera is camera and self.current.viewers):
            self.end()
            self.load(camera)
            if camera is LOOPBACK and self.guest.try_run("killall -0 mjpegcam")[0]:
                self.write_pictures()
            self.start(camera).connect()
        self.current.see()
        return self.current


test = Tests()


# ----------------------------------------------------------------------------------------------- every protocol


def three_protocols(lab, camera):
    lab.end()
    session = lab.session(camera)
    rates = session.see(different=30)
    status, headers, body = get(session.port(HTTP), "/snapshot")
    check(status == 200 and headers["Content-Type"] == "image/jpeg", f"/snapshot is answered with {status}")
    check(clients.jpeg_size(body) == camera.size, f"/snapshot has {clients.jpeg_size(body)}")
    clients.decode([body], camera.size)
    if camera is LOOPBACK:
        check(lab.pictures.number(body) is not None, "/snapshot is not the camera's picture")
    check(get(session.port(HTTP), "/healthz")[0] == 200, "/healthz is not 200")
    return rates


# ---------------------------------------------------------------------------------------------- a device not there


@test("vivid: the device is missing at start and comes later")
def _(lab):
    lab.unload()
    session = lab.start(SINGLE).connect()
    status, headers, _ = get(session.port(HTTP), "/snapshot")
    check(status == 503, f"/snapshot without a camera is answered with {status}")
    check(get(session.port(HTTP), "/healthz")[0] == 503, "/healthz without a camera is not 503")
    wait_until(lambda: all(v.total() for v in session.viewers), 10, 'a "no picture" JPEG for every client')
    session.healthy()
    lab.insert(SINGLE)
    return session.see()


@test("vivid single-planar: http, push, pull")
def _(lab):
    return three_protocols(lab, SINGLE)


# ------------------------------------------------------------------------------------------------------- faults


def fault(lab, camera, script, counters, after=None):
    """Injects a fault while clients of every protocol are connected. One of the counters must show it, and all
    clients must see pictures again."""
    session = lab.session(camera)
    before = session.state()
    started = time.monotonic()
    session.guest.run(script)

    def shown():
        state = session.state()
        return any(state[name] > before[name] for name in counters)

    if after:
        after(session, before)
    wait_until(shown, RECOVERY_SECONDS, lambda: f"{' or '.join(counters)} above {before}: {session.state()}")
    session.wait_state("live")
    live = time.monotonic() - started
    session.see()
    state = session.state()
    grown = ", ".join(f"{name} +{state[name] - before[name]}" for name in ("dropped", "bad", "reopens"))
    return f"live after {live:.1f} s; {grown}"


def control(name, value=1):
    return f'control /dev/video0 "{name}" {value}\n'


FATAL = control("Inject Fatal Streaming Error")


def add_fault(camera, name, script, counters, after=None):
    test(f"{camera.name}: {name}")(lambda lab: fault(lab, camera, script, counters, after))


def replug(session, _before):
    """After an unbind: waits until camd let go of the device (else the new one gets another number), then binds."""
    wait_until(lambda: not session.holds_camera(), RECOVERY_SECONDS, "camd closes the device that is gone")
    session.guest.run(
        "echo vivid.0 >/sys/bus/platform/drivers/vivid/bind; until [ -c /dev/video0 ]; do sleep 0.1; done"
    )


def no_more_drops(session, before):
    wait_until(lambda: session.state()["dropped"] > before["dropped"], RECOVERY_SECONDS, "dropped buffers are counted")
    session.guest.run(control("Percentage of Dropped Buffers", 0))


for camera in (SINGLE, MULTI):
    if camera is MULTI:
        test("vivid multi-planar: http, push, pull")(lambda lab: three_protocols(lab, MULTI))
    add_fault(camera, "a buffer flagged with an error", control("Inject V4L2_BUF_FLAG_ERROR"), ["bad"])
    add_fault(camera, "QBUF fails", control("Inject VIDIOC_QBUF Error"), ["bad", "dropped", "reopens"])
    # These two are met only when streaming begins: the fatal error makes camd begin again.
    add_fault(camera, "REQBUFS fails at reopening", control("Inject VIDIOC_REQBUFS Error") + FATAL, ["reopens"])
    add_fault(camera, "STREAMON fails at reopening", control("Inject VIDIOC_STREAMON Error") + FATAL, ["reopens"])
    add_fault(
        camera, "half of the buffers dropped", control("Percentage of Dropped Buffers", 50), ["dropped"], no_more_drops
    )
    add_fault(camera, "fatal streaming error", FATAL, ["reopens"])
    add_fault(camera, "disconnect", control("Disconnect"), ["reopens"])
    add_fault(camera, "unbind and bind", "echo vivid.0 >/sys/bus/platform/drivers/vivid/unbind", ["reopens"], replug)


# ------------------------------------------------------------------------------------------------- an MJPEG camera


@test("v4l2loopback: no writer at start, one comes later")
def _(lab):
    lab.unload()
    lab.load(LOOPBACK)
    session = lab.start(LOOPBACK).connect()
    wait_until(lambda: all(v.total() for v in session.viewers), 10, 'a "no picture" JPEG for every client')
    check(get(session.port(HTTP), "/snapshot")[0] == 503, "/snapshot without pictures is not 503")
    session.healthy()
    lab.write_pictures()
    return session.see()


@test("v4l2loopback MJPEG: http, push, pull, byte for byte")
def _(lab):
    return three_protocols(lab, LOOPBACK)


@test("v4l2loopback: the writer is killed and another starts")
def _(lab):
    session = lab.session(LOOPBACK)
    # The next writer counts from 0, and the driver shows a few old pictures first.
    for viewer in session.viewers:
        viewer.in_order = False
    lab.stop_pictures()
    wait_until(lambda: session.state()["state"] != "live", RECOVERY_SECONDS, "camd notices that no pictures come")
    session.healthy()
    started = time.monotonic()
    lab.write_pictures()
    session.wait_state("live")
    live = time.monotonic() - started
    session.see()
    # From here on the numbers rise again.
    for viewer in session.viewers:
        viewer.in_order = True
    session.see()
    return f"live after {live:.1f} s"


@test("v4l2loopback: no picture is slept through after a start")
def _(lab):
    # The driver forgets a poller that registers while a picture is readable. Whoever misses that sleeps until its own
    # timer, and meanwhile the writer goes round the ring and over the picture that is kept. camd starts its camera
    # without a client, so this is about the driver's sequence numbers alone.
    lab.unload()
    lab.load(HASTY)
    lab.write_pictures(HASTY)
    lost = []
    for _ in range(8):
        state = lab.start(HASTY).state
        wait_until(lambda state=state: state()["frames"] > HASTY.fps, RECOVERY_SECONDS, "a second of pictures")
        lost.append(state()["dropped"])
    lab.unload()
    check(max(lost) < HASTY.fps / 2, f"pictures lost in eight starts: {lost}")
    return f"pictures lost in eight starts: {lost}"


# ------------------------------------------------------------------------------------------------ an H.264 camera


@test("v4l2loopback H.264: /stream.mp4 and raw, byte for byte")
def _(lab):
    said = []
    lab.unload()
    lab.load(FILM)
    for name, (profile, more) in h264.KINDS.items():
        units = h264.access_units(h264.encode(profile, more))
        check(len(units) == h264.PICTURES, f"{len(units)} pictures of {h264.PICTURES}")
        lab.end()
        h264.show(lab.guest, units)
        session = lab.start(FILM, config=FILM_CONFIG)
        said.append(f"{name}: {h264.film(session.port(HTTP), units)}; raw {h264.raw(session.port(RAW), units)}")
        check(session.state()["format"] == "h264", f"{session.state()}")
    devices = lab.guest.run("camd devices")
    check(re.search(r'h264 +H264 .*<- format = "auto"', devices), f"camd devices says: {devices}")
    line = announced(session)
    check("H264 160x120" in line and line.endswith("passed on untouched"), f"the log says: {line}")
    status, _, body = get(session.port(HTTP), "/snapshot")
    check(status == 503 and b"/stream.mp4" in body, f"/snapshot is answered with {status}: {body}")
    return "; ".join(said)


@test("v4l2loopback H.264: a sequence parameter set that changes, and a writer that is killed")
def _(lab):
    lab.unload()
    lab.load(FILM)
    first, second = (h264.access_units(h264.encode(profile)) for profile in ("main", "high"))
    units = first + second
    h264.show(lab.guest, units)
    session = lab.start(FILM, config=FILM_CONFIG)
    raw = h264.raw(session.port(RAW), units)
    # A film ends with its parameters, and the next one has the others.
    sets = []
    for _ in range(2):
        viewer = h264.Film(session.port(HTTP))
        count = 0
        while viewer.next():
            count += 1
        sets.append(viewer.sets)
        check(0 < count <= len(first), f"{count} pictures with one set of parameters")
    check(sets[0] != sets[1], "both films have the same parameters")
    # The same film goes on with another writer.
    h264.show(lab.guest, first)
    viewer = h264.Film(session.port(HTTP))
    order = h264.Order(first)
    for _ in range(10):
        order.take(viewer.next())
    lab.guest.run("killall -9 h264cam")
    wait_until(lambda: session.state()["state"] != "live", RECOVERY_SECONDS, "camd notices that no pictures come")
    before = order.count
    h264.start(lab.guest)
    while order.count < before + len(first):
        nals = viewer.next()
        check(nals is not None, "the film ended with its writer")
        order.take(nals)
    check(order.gaps >= 2, "the film went on without a gap")
    return f"raw {raw}; {order.count} pictures, {order.gaps - 1} gaps"


@test("v4l2loopback H.264: B-pictures are refused with a reason")
def _(lab):
    lab.unload()
    lab.load(FILM)
    h264.show(lab.guest, h264.access_units(h264.encode("main", b_pictures=2)))
    session = lab.start(FILM, config=FILM_CONFIG)
    session.wait_state("fault")
    reason = session.state()["reason"]
    check("B-pictures" in reason and "-bf 0" in reason, f"the reason is: {reason}")
    viewer = h264.Film(session.port(HTTP))
    check(viewer.status == 503, f"/stream.mp4 is answered with {viewer.status}")
    lab.unload()
    return reason


# ------------------------------------------------------------------------------------------ what a camera is asked for


def announced(session):
    """What camd's log says of the camera's last opening."""
    return re.findall(r"camera: (.*buffers.*)", session.log(1000))[-1]


@test("auto: of vivid the cheapest format, of v4l2loopback its JPEGs")
def _(lab):
    said = []
    for driver, format, why in (
        (SINGLE, "YU12 640x480 at 10 fps", "encoded; "),
        (LOOPBACK, "MJPG 640x480", "passed on untouched"),
    ):
        lab.unload()
        camera = Camera(driver.name, driver.module, "auto", driver.size, driver.fps)
        lab.load(camera)
        if driver is LOOPBACK:
            lab.write_pictures(camera)
        session = lab.start(camera).connect()
        session.see()
        line = announced(session)
        check(format in line and f" buffers: {why}" in line, f"the log says: {line}")
        said.append(line)
    lab.unload()
    return "; ".join(said)


def controls(lab):
    """The camera's controls and their values, asked beside camd."""
    survey = json.loads(lab.guest.run("camd devices --json"))
    return {control["name"]: control["value"] for control in survey["cameras"][0]["controls"]}


@test("turning: by vivid's own control, which is put back at the end; what it has no control for is left to camd")
def _(lab):
    lab.end()
    lab.load(SINGLE)
    check(controls(lab)["horizontal_flip"] == 0, "vivid mirrors by itself")
    session = lab.start(SINGLE, linger=1, keys='flip = "horizontal"').connect()
    session.see()
    check(controls(lab)["horizontal_flip"] == 1, "the control is not set while pictures come")
    check(announced(session).endswith("; turned by the camera"), f"the log says: {announced(session)}")
    session.leave()
    wait_until(lambda: not session.holds_camera(), 10, "the camera rests")
    check(controls(lab)["horizontal_flip"] == 0, "the control is not put back at rest")
    session.connect()
    session.see()
    check(controls(lab)["horizontal_flip"] == 1, "the control is not set again")
    session.guest.run(f"kill -TERM {session.pid}; until [ -s /run/camd.code ]; do usleep 10000; done", timeout=30)
    check(controls(lab)["horizontal_flip"] == 0, "the control is not put back at the end")
    session = lab.start(SINGLE, keys="rotate = 90").connect()
    session.wait_state("live")
    state = session.state()
    check((state["width"], state["height"]) == (480, 640), f"turned by a quarter it is {state}")
    check(announced(session).endswith("; turned by camd"), f"the log says: {announced(session)}")
    lab.end()
    return "set, put back, set again and put back"


# Squares, so that no two parts look alike; without the text, which tells the time.
STILL = "controls = { test_pattern = 4, osd_text_mode = 2 }"


def snapshot(lab, camera, keys=""):
    """A snapshot of vivid's still pattern: its size, its luma, and the session that gave it."""
    session = lab.start(camera, keys=f"{keys}\n{STILL}")
    status, _, picture = get(session.port(HTTP), "/snapshot", timeout=RECOVERY_SECONDS)
    check(status == 200, f"/snapshot is answered with {status}: {session.log()}")
    size, state = clients.jpeg_size(picture), session.state()
    check(size == (state["width"], state["height"]), f"a picture of {size}, and {state}")
    return size, clients.gray([picture], size)[0], session


@test("crop: by vivid's own selection, the part that was asked for and no other, which is put back at the end")
def _(lab):
    lab.end()
    lab.load(HDMI)
    size, whole, _ = snapshot(lab, HDMI)
    check(size == HDMI.size, f"the whole picture is {size}")
    size, got, session = snapshot(lab, HDMI, "crop = [320, 120, 240, 200]")
    log = session.log(1000)
    check("camera: cropped by the camera: 320,120 240x200 of 640x480" in log, f"the log says: {log}")
    check(size == (240, 200), f"the part is {size}")
    rows = (whole[640 * y + 320 : 640 * y + 560] for y in range(120, 320))
    wanted = b"".join(rows)
    check(len(set(wanted)) > 4, "the part shows something")
    apart = [sum(abs(a - b) for a, b in zip(wanted, other)) / len(wanted) for other in (got, whole[: len(wanted)])]
    check(apart[0] < 4 < 20 < apart[1], f"levels between the part and what is there: {apart}")
    # A program that does not crop has the whole again.
    size, *_ = snapshot(lab, HDMI)
    check(size == HDMI.size, f"after that the whole picture is {size}")
    lab.unload()
    return f"{apart[0]:.2f} levels between the part and the same of the whole picture"


@test("fields: of an interlaced input each picture has all lines, in their order")
def _(lab):
    lab.end()
    lab.load(SVIDEO)

    def shown(camera):
        size, picture, session = snapshot(lab, camera)
        check(size == camera.size, f"a picture of {size}, and {session.state()}")
        fields = session.guest.run("cat /run/camd.log | grep -ci field || true").strip()
        check(fields == "0", f"a woven picture needs no word about fields: {session.log(100)}")
        lab.end()
        return picture

    whole = shown(SVIDEO)
    small = shown(Camera(SVIDEO.name, SVIDEO.module, SVIDEO.format, (360, 288), SVIDEO.fps))
    rows = [whole[720 * y : 720 * (y + 1)] for y in range(576)]

    def apart(lines):
        """Levels between the small picture and every other pixel of these lines."""
        wanted = b"".join(line[::2] for line in lines)
        return sum(abs(a - b) for a, b in zip(wanted, small)) / len(small)

    # The whole picture, and what it would look like if its fields lay behind each other, or were one.
    right, behind, one = apart(rows[::2]), apart((rows[::2] + rows[1::2])[::2]), apart(rows[:288])
    check(right < 6 < 20 < min(behind, one), f"levels apart: {right:.1f}, fields apart {behind:.1f}, one {one:.1f}")
    lab.unload()
    return f"{right:.2f} levels between two sizes, {behind:.0f} if the fields lay behind each other"


# ------------------------------------------------------------------------------------------------ rest and the end


@test(f"idle: no wake-up in {IDLE_SECONDS} s without viewers, and the device is closed")
def _(lab):
    lab.session(LOOPBACK)
    session = lab.start(LOOPBACK, linger=1)
    counters = f"for task in /proc/{session.pid}/task/*; do grep ctxt_switches $task/status; cat $task/schedstat; done"

    def still(when):
        check(not session.holds_camera(), f"{when}: the device is open")
        before, after = session.guest.run(
            f"({counters}) >/run/before; sleep {IDLE_SECONDS}; ({counters}) >/run/after; "
            "cat /run/before; echo =; cat /run/after",
            timeout=IDLE_SECONDS + 30,
        ).split("=\n")
        check(before == after, f"{when}: it ran:\n{before}then\n{after}")

    session.guest.run("sleep 2")
    still("never had a viewer")
    session.connect()
    session.see()
    session.leave()
    wait_until(lambda: not session.holds_camera(), 10, "linger_s is 1: the device is closed")
    session.guest.run("sleep 2")
    still("after the last viewer left")
    session.connect()
    return session.see()


@test(f"a heap that never grows: decoding, scaling and encoding for all clients, {PICTURES} pictures each")
def _(lab):
    memory = []
    for camera in (SINGLE, LOOPBACK):
        lab.unload()
        lab.load(camera)
        if camera is LOOPBACK:
            lab.write_pictures()
        session = lab.start(camera, config=PROFILES).connect(untouched=False)

        def pictures(count, session=session):
            for viewer in session.viewers:
                viewer.mark()

            def seen():
                session.healthy()
                return all(viewer.total() >= count for viewer in session.viewers)

            def figures():
                return ", ".join(f"{viewer.name}: {viewer.total()}" for viewer in session.viewers)

            wait_until(seen, 30 + count, lambda: f"{count} pictures each: {figures()}")

        pictures(WARM_UP)
        before = session.memory()
        pictures(PICTURES)
        after = session.memory()
        check(before == after, f"{camera.name}: {before} KiB became {after}")
        memory.append(f"{camera.name}: {after}")
        sizes = [sorted(viewer.sizes()) for viewer in session.viewers]
        check(sizes[0] == [camera.size] and sizes[-1] == [(80, 60)], f"sizes {sizes}")
    lab.unload()
    return "KiB " + ", ".join(memory)


@test("sandbox: on in every thread, and the camera comes back through the broker")
def _(lab):
    lab.session(SINGLE)
    session = lab.start(SINGLE, linger=1)
    lines = [line for line in session.log(1000).splitlines() if "sandbox: " in line]
    # This kernel has both.
    check(len(lines) == 1 and "sandbox: on: system calls (seccomp), files" in lines[0], f"said {lines}")
    for _ in range(2):
        session.connect()
        session.see()
        for field, value in (("Seccomp", "2"), ("NoNewPrivs", "1")):
            found = session.guest.run(f"grep -h ^{field}: /proc/{session.pid}/task/*/status").split()
            check(len(found) >= 4 and set(found[1::2]) == {value}, f"{field}: {found}")
        session.leave()
        wait_until(lambda: not session.holds_camera(), 10, "linger_s is 1: the device is closed")
    return lines[0].split("sandbox: ")[1]


@test("SIGTERM: exit code 0 within a second, and the device is free")
def _(lab):
    times = []
    for camera in (LOOPBACK, SINGLE):
        session = lab.session(camera)
        output = session.guest.run(
            f"cat /proc/uptime; kill -TERM {session.pid}; until [ -s /run/camd.code ]; do usleep 10000; done; "
            "cat /proc/uptime /run/camd.code",
            timeout=30,
        ).split()
        seconds, code = float(output[2]) - float(output[0]), int(output[4])
        check(code == 0, f"exit code {code}")
        check(seconds < 1, f"it took {seconds} s")
        lab.unload()
        times.append(f"{seconds:.2f} s")
    return " and ".join(times)


# --------------------------------------------------------------------------------------------- the board's watchdog


# Nearly all of that is waiting. What follows it here takes its time, too.
test.group("watchdog")


def guarded(lab):
    """A session that feeds softdog, the kernel's own watchdog: unfed, it resets the guest, which ends QEMU."""
    lab.load(SINGLE)
    if lab.guest.try_run("[ -c /dev/watchdog ]")[0]:
        lab.guest.run(f"modprobe softdog soft_margin={WATCHDOG_SECONDS} nowayout=0")
    session = lab.start(SINGLE, options="--watchdog /dev/watchdog").connect()
    session.see()
    check("resets the board 15 s after" in session.log(1000), f"said: {session.log()}")
    return session


@test("watchdog: an ordered end stops it, an unplugged camera is no reason, one that hangs resets the board")
def _(lab):
    session = guarded(lab)
    session.guest.run(f"kill -TERM {session.pid}; until [ -s /run/camd.code ]; do usleep 10000; done", timeout=30)
    session.guest.run(f"sleep {WATCHDOG_SECONDS + 10}", timeout=60)
    session = guarded(lab)
    guest = session.guest
    guest.run("echo vivid.0 >/sys/bus/platform/drivers/vivid/unbind")
    session.wait_state("fault")
    guest.run(f"sleep {HUNG_SECONDS + WATCHDOG_SECONDS + 5}", timeout=2 * HUNG_SECONDS)
    check("not fed" not in session.log(1000), f"an unplugged camera: {session.log()}")
    replug(session, None)
    session.see()
    guest.run(control("Percentage of Dropped Buffers", 100))
    began = time.monotonic()
    guest.run(f"sleep {HUNG_SECONDS - 10}", timeout=2 * HUNG_SECONDS)
    check("not fed" not in session.log(1000), f"too early: {session.log()}")
    wait_until(lambda: "not fed" in session.log(1000), 15, "the log says why")
    hungry = time.monotonic()
    guest.wait_for_end(WATCHDOG_SECONDS + 10)
    ended = time.monotonic()
    lab.close()
    return f"starved after {hungry - began:.0f} s without a picture, reset after {ended - hungry:.0f} s more"


@test("watchdog: a camd that is stopped is reset with the board")
def _(lab):
    session = guarded(lab)
    session.guest.run(f"kill -STOP {session.pid}")
    began = time.monotonic()
    session.guest.wait_for_end(WATCHDOG_SECONDS + 10)
    lab.close()
    return f"after {time.monotonic() - began:.0f} s"


@test(f"{REOPENS} reopens of a device leak nothing")
def _(lab):
    lab.end()
    lab.load(SINGLE)
    return lab.guest.run(f"reopen /dev/video0 {REOPENS}", timeout=300).strip().splitlines()[-1]


# ------------------------------------------------------------------------------------------------ hardware encoding


def encode_by_vicodec(lab, multiplanar):
    lab.unload()
    lab.guest.run(f"modprobe vicodec multiplanar={multiplanar} && until [ -c /dev/video0 ]; do sleep 0.1; done")
    try:
        figures = lab.guest.run(f"m2m {M2M_PICTURES} {M2M_ROUNDS}", timeout=300).strip()
    finally:
        # Fails if anything still holds the device.
        lab.guest.run("rmmod vicodec")
    return figures.replace("\n", "; ")


for number, planar in enumerate(("single", "multi")):
    test(f"m2m: vicodec {planar}-planar, {M2M_ROUNDS} starts")(lambda lab, n=number: encode_by_vicodec(lab, n))


@test('m2m: without a JPEG encoder camd encodes by itself, with a warning if encoder = "m2m"')
def _(lab):
    lab.unload()
    # A memory-to-memory device is there, but it makes no JPEG.
    lab.guest.run("modprobe vicodec && until [ -c /dev/video1 ]; do sleep 0.1; done")
    try:
        lab.guest.run(f"modprobe {SINGLE.module}")
        lab._loaded = SINGLE
        node = lab.guest.run(
            'for n in /sys/class/video4linux/video*; do grep -q vivid $n/name && echo /dev/${n##*/} && break; done'
        ).strip()
        session = lab.start(SINGLE, device=node, keys='encoder = "m2m"').connect()
        rates = session.see()
        check(session.state()["encoder"] == "cpu", f"/state says {session.state()['encoder']}")
        log = lab.guest.run("grep 'JPEGs are made' /run/camd.log").strip().splitlines()
        check(len(log) == 1 and "WARN" in log[0], f"said {log}")
        for words in ("no V4L2 memory-to-memory device that codes yuyv into JPEG or MJPG", "(vicodec): codes into"):
            check(words in log[0], f"{words} is not in {log[0]}")
        return rates
    finally:
        lab.unload()
        lab.guest.run("rmmod vicodec")


# ------------------------------------------------------------------------------------------------------------ cells


@test("cells: what is beyond its work ends a cell, and nothing else")
def _(lab):
    with Guest(lab.folder, [lab.examples / "cell"], lab.logs / "cell-console.log") as guest:
        rows = guest.run("cell || true").splitlines()
    check(len(rows) == 8, f"{len(rows)} faults: {rows}")
    wrong = [row for row in rows if not row.endswith(": SIGSYS")]
    check(not wrong, "; ".join(wrong))
    return ", ".join(row.split(":")[0] for row in rows)


# ------------------------------------------------------------------------------------------------------------ costs


# They count instructions: a busy host changes their duration, not their figures.
test.group("cost", nice=10)


ESTIMATE = 1.4


@test(f"estimates: the work that a format makes is known to a factor of {ESTIMATE}")
def _(lab):
    worst, wrong = 1, []
    with Guest(lab.folder, [lab.examples / "cost"], lab.logs / "cost-console.log", counted=True) as guest:
        rows = guest.run("cost", timeout=300).splitlines()
    (lab.logs / "estimates.txt").write_text("\n".join(rows) + "\n")
    check(len(rows) > 40, f"only {len(rows)} rows")
    for row in rows:
        estimated, measured = map(float, row.split()[-2:])
        factor = max(estimated / measured, measured / estimated)
        if factor > ESTIMATE:
            wrong.append(row)
        worst = max(worst, factor)
    check(not wrong, "million instructions, estimated and measured: " + "; ".join(wrong))
    return f"{len(rows)} ways, {worst:.2f} x at most"


@test(f"cost: little more than the least possible program at {', '.join(map(str, bench.CLIENTS))} clients")
def _(lab):
    table, ratios, sandbox = bench.run(lab.folder, lab.camd, lab.logs / "bench-console.log")
    (lab.folder / "bench.txt").write_text(table)
    print(table, end="", flush=True)
    for clients, ratio in ratios.items():
        limit = bench.LIMITS[clients]
        check(ratio <= limit, f"camd costs {ratio:.3f} x the least possible program at {clients} clients, not {limit}")
    once, each = bench.SANDBOX
    for clients, cost in sandbox.items():
        limit = once / clients + each
        check(cost <= limit, f"the sandbox costs {cost:.2f} thousand instructions per client at {clients} clients, not {limit:.2f}")
    return ", ".join(f"{ratio:.3f} x at {clients}" for clients, ratio in ratios.items())


@test("TLS cost: in the kernel and by rustls little more than plain TCP; in the kernel nothing is allocated for a picture")
def _(lab):
    table, wrong = tls.run(lab.folder, lab.camd, lab.logs / "tls-console.log")
    (lab.folder / "tls.txt").write_text(table)
    print(table, end="", flush=True)
    check(not wrong, "; ".join(wrong))
    return table.splitlines()[-1]


@test(f"memfd cost: less than {memfd.LIMIT} instructions per reader and frame at {', '.join(map(str, memfd.READERS))} readers")
def _(lab):
    table, worst = memfd.run(lab.folder, lab.camd, lab.logs / "memfd-console.log")
    (lab.folder / "memfd.txt").write_text(table)
    print(table, end="", flush=True)
    check(worst < memfd.LIMIT, f"a reader costs {worst:.0f} instructions a frame")
    return f"{worst:.0f} at most"


@test(f"picture cost: less than ffmpeg and OpenCV, at most {pictures.LIMIT} x libjpeg alone")
def _(lab):
    table, wrong = pictures.run(lab.folder, lab.examples / "pictures", lab.logs / "pictures-console.log")
    (lab.folder / "pictures.txt").write_text(table)
    print(table, end="", flush=True)
    check(not wrong, "; ".join(wrong))
    return "all cases"


@test(f"cell cost: at most {cells.LIMIT} x what camd costs without")
def _(lab):
    table, ratio = cells.run(lab.folder, lab.camd, lab.logs / "cells-console.log")
    (lab.folder / "cells.txt").write_text(table)
    print(table, end="", flush=True)
    check(ratio <= cells.LIMIT, f"with a cell camd costs {ratio:.3f} x what it costs without")
    return f"{ratio:.3f} x"


@test(f"call cost: at most {calls.LIMIT:.2f} x the original way's at {calls.FPS} pictures a second")
def _(lab):
    table, ratio = calls.run(lab.folder, lab.camd, lab.examples / "pictures", lab.logs / "calls-console.log")
    (lab.folder / "calls.txt").write_text(table)
    print(table, end="", flush=True)
    check(ratio <= calls.LIMIT, f"camd costs {ratio:.3f} x the original way")
    return f"{ratio:.3f} x"


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--lab", type=Path, help="what prepare made")
    parser.add_argument("--camd", type=Path)
    parser.add_argument("--examples", type=Path, help="the folder of the built examples")
    parser.add_argument("--list", action="store_true")
    parser.add_argument("names", nargs="*", help="run tests whose names contain one of these; with !WORD none with that")
    options = parser.parse_args()
    if options.list:
        return test.list(options.names)
    if not (options.lab and options.camd and options.examples):
        parser.error("--lab, --camd and --examples are needed, as tests/lab/run has them")

    def make(group):
        return Lab(options.lab, options.camd, options.examples, group)

    return test.run("lab", options.names, make, (GuestError, clients.ProtocolError))


if __name__ == "__main__":
    sys.exit(main())
