"""The camera box's tests: the image as it is shipped, in QEMU, from its card. See README.md."""

import argparse
import contextlib
import hashlib
import http.client
import json
import lzma
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from pathlib import Path

from guest import GuestError, Machine, pack_folders

TOP = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(TOP / "deploy/image"))
import card  # noqa: E402

UPDATE = TOP / "deploy/image/update"
PORT = 8080
BOOT_SECONDS = 240  # of a busy host's; what counts is the guest's own time
FIRST_JPEG_SECONDS = 8
POWER_CUTS = 20
PARTITION = f"@@{card.PARTITION_START}"

PATTERN = '[camera]\nsource = "pattern"\n\n[[listener]]\nprotocol = "http"\nbind = "0.0.0.0:8080"\n'
VIVID = '[camera]\nfps = 10\nlinger_s = 1\n\n[[listener]]\nprotocol = "http"\nbind = "0.0.0.0:8080"\n'


class Failure(Exception):
    pass


def check(condition, what):
    if not condition:
        raise Failure(what)


def wait_until(condition, timeout, what):
    deadline = time.monotonic() + timeout
    while True:
        found = condition()
        if found:
            return found
        if time.monotonic() > deadline:
            raise Failure(f"not within {timeout} s: {what() if callable(what) else what}")
        time.sleep(0.2)


def run(*command, **options):
    done = subprocess.run([*map(str, command)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, **options)
    check(done.returncode == 0, f"{command[0]} ended with {done.returncode}: {done.stdout.decode(errors='replace')}")
    return done.stdout


# -------------------------------------------------------------------------------------------------------- the card


class Card:
    """A copy of the image, as large as the card, as somebody with a PC sees it: through mtools."""

    def __init__(self, image, folder, name="card.img"):
        self.path = folder / name
        shutil.copyfile(image, self.path)
        os.truncate(self.path, card.DISK_SIZE)

    @property
    def _drive(self):
        return f"{self.path}{PARTITION}"

    def read(self, name):
        return run("mtype", "-i", self._drive, f"::{name}").decode(errors="replace")

    def get(self, name, target):
        run("mcopy", "-n", "-o", "-i", self._drive, f"::{name}", target)
        return target

    def put(self, name, text):
        with tempfile.NamedTemporaryFile() as file:
            file.write(text.encode())
            file.flush()
            run("mcopy", "-o", "-i", self._drive, file.name, f"::{name}")

    def errors(self):
        return self.read(card.ERRORS).strip()

    def selection(self):
        return card.Selection.parse(self.read(card.SELECT).encode())

    def fsck(self):
        with tempfile.NamedTemporaryFile(dir=self.path.parent) as file:
            run("dd", f"if={self.path}", f"of={file.name}", "bs=1M", f"skip={card.PARTITION_START // card.MIB}",
                "conv=sparse", "status=none")  # fmt: skip
            run("fsck.vfat", "-n", file.name)


class Box(Machine):
    """The box, switched on. What the Pi's firmware does is done here: select.txt is read, and the files of the system
    that it names are loaded. `hook` is for the boot script, after the agent's."""

    def __init__(self, lab, card_, machine="virt", hook="", counted=False, log="console.log", extra=(), ports=(PORT,)):
        super().__init__(lab.logs / log, ports)
        folder = lab.folder / "firmware"
        folder.mkdir(exist_ok=True)
        self.card, self.slot = card_, card_.selection().slot
        number = "8" if machine == "virt64" else "7"
        kernel = card_.get(f"{self.slot}/kernel{number}.img", folder / "kernel.img")
        initramfs = card_.get(f"{self.slot}/initramfs{number}.img", folder / "initramfs.img")
        command_line = card_.read(f"{self.slot}/cmdline.txt").strip()
        if number == "8":
            # A Pi's firmware unpacks it. It ends in zeros, which gzip's own program would mind.
            import zlib

            kernel.write_bytes(zlib.decompressobj(31).decompress(kernel.read_bytes()))
        self._overlay(lab, folder, initramfs, number, hook)
        network = f"user,id=net,restrict=on{self.forward()}"
        drive = f"file={card_.path},format=raw,if={{}},id=card,cache=writethrough"
        common = ["-m", "1024" if machine == "raspi2b" else "512", "-no-reboot", "-display", "none", "-monitor", "none",
                  "-serial", f"file:{self.log}", "-kernel", kernel, "-initrd", initramfs]  # fmt: skip
        if machine == "raspi2b":
            tree = card_.get(f"{self.slot}/bcm2836-rpi-2-b.dtb", folder / "tree.dtb")
            command = ["qemu-system-arm", "-M", "raspi2b", "-dtb", tree, "-drive", drive.format("sd"),
                       "-netdev", network, "-device", "usb-net,netdev=net"]  # fmt: skip
            self._far_end_unused = True
        else:
            kind = ["qemu-system-aarch64", "-M", "virt", "-cpu", "cortex-a72"] if number == "8" else [
                "qemu-system-arm", "-M", "virt,highmem=off", "-cpu", "cortex-a15"]  # fmt: skip
            command = [*kind, "-drive", drive.format("none"), "-device", "virtio-blk-device,drive=card",
                       "-netdev", network, "-device", "virtio-net-device,netdev=net", *self.shell_device()]  # fmt: skip
        if counted:
            command += ["-icount", "shift=0"]
        self.log.write_text("")
        self.start([*command, *common, "-append", command_line, *extra])

    def _overlay(self, lab, folder, initramfs, number, hook):
        overlay = folder / "overlay"
        shutil.rmtree(overlay, ignore_errors=True)
        (overlay / "etc/box/start.d").mkdir(parents=True)
        (overlay / "lab").mkdir()
        shutil.copyfile(TOP / "tests/lab/guest/agent", overlay / "etc/box/start.d/agent")
        (overlay / "etc/box/start.d/lab").write_text(hook)
        shutil.copy(lab.folder / "poweron", overlay / "lab/poweron")
        for path in lab.modules(number, hook):
            data = path.read_bytes()
            name = path.name.removesuffix(".xz")
            (overlay / "lab" / name).write_bytes(lzma.decompress(data) if path.suffix == ".xz" else data)
        for source, target in lab.extra_files(hook):
            (overlay / target).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source, overlay / target)
        with open(initramfs, "ab") as out:
            pack_folders(out, [overlay, *lab.over])

    # ------------------------------------------------------------------------------------------ as its user sees it

    def get(self, path, timeout=10):
        connection = http.client.HTTPConnection("127.0.0.1", self.ports[PORT], timeout=timeout)
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    def try_get(self, path):
        try:
            return self.get(path)
        except (OSError, http.client.HTTPException):
            return None, b""

    def console(self):
        return self.log.read_text(errors="replace")

    def on(self):
        return self._qemu.poll() is None

    def wait_console(self, text, timeout=BOOT_SECONDS):
        wait_until(
            lambda: text in self.console() or not self.on(), timeout, lambda: f"the console says {text!r}{self.tail()}"
        )
        check(text in self.console(), f"the box ended before it said {text!r}{self.tail()}")

    def tail(self):
        return "; the console ends:\n" + "\n".join("    " + line for line in self.console().splitlines()[-15:])

    def first_jpeg(self):
        """Waits for a picture, as a browser that is opened too early would."""

        def picture():
            check(self.on(), f"the box went off{self.tail()}")
            status, body = self.try_get("/snapshot")
            return status == 200 and body[:2] == b"\xff\xd8" and body

        return wait_until(picture, BOOT_SECONDS, lambda: f"a picture{self.tail()}")

    def wait_off(self, timeout, what):
        """Until the box resets itself, which ends QEMU."""
        wait_until(lambda: not self.on(), timeout, lambda: f"{what}{self.tail()}")

    def cut(self):
        """The plug is pulled."""
        self.close()


def insmod(*modules):
    """For a hook: loads modules that the image does not have. See Lab.modules."""
    return "".join(f"# module {name}\n" for name in modules)


class Lab:
    def __init__(self, folder, image, work, camd, over):
        self.folder, self.image, self.work, self.camd, self.over = folder, image, work, camd, over
        self.logs = folder / "logs"
        self.logs.mkdir(parents=True, exist_ok=True)
        self.box = None
        run("arm-linux-gnueabihf-gcc", "-std=gnu11", "-O2", "-static", "-Wall", "-Wextra", "-Werror",
            "-o", folder / "poweron", TOP / "tests/lab/guest/poweron.c")  # fmt: skip

    def card(self, **files):
        made = Card(self.image, self.folder)
        for name, text in files.items():
            made.put(name.replace("_", "."), text)
        return made

    def boot(self, card_, **options):
        self.off()
        self.box = Box(self, card_, **options)
        return self.box

    def off(self):
        if self.box:
            self.box.close()
        self.box = None

    def modules(self, number, hook):
        """The files of the modules that a hook's `# module` lines name, with what they need."""
        names = re.findall(r"^# module (\S+)", hook, re.M)
        if not names:
            return []
        [tree] = (self.work / "packages").glob("linux-image-*" + {"7": "armmp", "8": "arm64"}[number])
        [version] = [path.name for path in (tree / "lib/modules").iterdir()]
        said = run("modprobe", "-d", tree, "-S", version, "--show-depends", "-a", *names).decode()
        return [Path(path) for path in dict.fromkeys(re.findall(r"^insmod (\S+)", said, re.M))]

    def load(self, number, *names, parameters=""):
        """The lines of a hook that load modules, the last one with parameters."""
        paths = self.modules(number, insmod(*names))
        files = [path.name.removesuffix(".xz") for path in paths]
        lines = "".join(f"insmod /lab/{file} 2>/dev/null\n" for file in files[:-1])
        return insmod(*names) + "PATH=$PATH:/lab/bin\n" + lines + f"insmod /lab/{files[-1]} {parameters}\n"

    def extra_files(self, hook):
        return [tuple(pair) for pair in re.findall(r"^# file (\S+) (\S+)", hook, re.M)]


VIVID_PARAMETERS = "n_devs=1 node_types=0x1 input_types=0 num_inputs=1"
TESTS = []


def test(name):
    def add(function):
        TESTS.append((name, function))
        return function

    return add
