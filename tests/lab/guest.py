"""An armv7 machine in QEMU, and a shell inside it for the host."""

import base64
import contextlib
import os
import random
import select
import shutil
import socket
import subprocess
import tempfile
import time
from pathlib import Path

# Of a guest that counts: -icount shift=1.
NS_PER_INSTRUCTION = 2


class GuestError(Exception):
    """The guest did not do what was asked: a script failed, or nothing answered in time."""


def free_ports(count):
    """TCP ports on 127.0.0.1 that nobody listens on. They are drawn from below those that the kernel gives to clients:
    until QEMU takes them, no connection of another guest's can."""
    ports = []
    while len(ports) < count:
        port = random.randrange(10000, 32768)
        with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)):
            if port not in ports:
                ports.append(port)
    return ports


class Machine:
    """A running QEMU, and a shell inside it if its system has one for us. `ports` maps a guest's TCP port to the one on
    127.0.0.1 that leads to it.

    The shell is a socket pair whose other end QEMU inherits, so there is no path to keep short and nothing to clean
    up. One script runs at a time; what a script leaves in the background stays.
    """

    def __init__(self, log, ports=()):
        self.log = Path(log)
        # A mapping: those of an earlier machine, whose place this one takes.
        self.ports = ports if isinstance(ports, dict) else dict(zip(ports, free_ports(len(ports)), strict=True))
        self._number = 0
        self._input = b""
        self._control, self._far_end = socket.socketpair()

    def forward(self):
        """The part of QEMU's -netdev user that leads to the ports."""
        return "".join(f",hostfwd=tcp:127.0.0.1:{host}-:{guest}" for guest, host in self.ports.items())

    def shell_device(self):
        """QEMU's options for the shell's virtio-serial port."""
        return [
            "-chardev", f"socket,id=shell,fd={self._far_end.fileno()}",
            "-device", "virtio-serial-device", "-device", "virtserialport,chardev=shell",
        ]  # fmt: skip

    def start(self, command):
        self._qemu = subprocess.Popen(command, stdin=subprocess.DEVNULL, pass_fds=[self._far_end.fileno()])
        self._far_end.close()

    def close(self):
        self._control.close()
        self._qemu.kill()
        self._qemu.wait()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def run(self, script, timeout=60, check=True):
        """Runs a shell script in the guest and returns what it printed."""
        code, output = self.try_run(script, timeout)
        if check and code != 0:
            raise GuestError(f"exit code {code} of: {script}\n{output}")
        return output

    def try_run(self, script, timeout=60):
        """As `run`, but returns (exit code, output)."""
        self._number += 1
        try:
            self._control.sendall(b"%d %s\n" % (self._number, base64.b64encode(script.encode())))
        except OSError:
            raise GuestError(f"the guest ended before: {script}") from None
        deadline = time.monotonic() + timeout
        while b"\n" not in self._input:
            ready, _, _ = select.select([self._control], [], [], max(0, deadline - time.monotonic()))
            if not ready:
                raise GuestError(f"no answer within {timeout} s to: {script}")
            try:
                data = self._control.recv(65536)
            except OSError:
                data = b""
            if not data:
                raise GuestError(f"the guest ended during: {script}")
            self._input += data
        line, _, self._input = self._input.partition(b"\n")
        fields = line.split(b" ")
        if int(fields[0]) != self._number:
            raise GuestError(f"answer {line[:80]!r} does not belong to: {script}")
        return int(fields[1]), base64.b64decode(fields[2]).decode(errors="replace")

    def write(self, path, text):
        """Makes a small file in the guest."""
        self.run(f"echo {base64.b64encode(text.encode()).decode()} | base64 -d >{path}")

    def append(self, path, data):
        """Appends a few bytes to a file in the guest."""
        self.run(f"echo {base64.b64encode(data).decode()} | base64 -d >>{path}")

    def wait_for_end(self, timeout):
        """Waits until the guest has reset itself, which ends QEMU."""
        try:
            self._qemu.wait(timeout)
        except subprocess.TimeoutExpired:
            raise GuestError(f"the guest still runs after {timeout} s") from None

    def wait_for(self, script, timeout, what):
        """Waits until a script ends well."""
        deadline = time.monotonic() + timeout
        while True:
            code, output = self.try_run(script)
            if code == 0:
                return output
            if time.monotonic() > deadline:
                raise GuestError(f"not within {timeout} s: {what} {output}")
            time.sleep(0.2)


class Guest(Machine):
    """The lab's own guest: booted with what prepare made."""

    BOOT_SECONDS = 120

    def __init__(self, lab, programs, log, ports=(), counted=False, folder=None, memory=512):
        """Boots with `programs` (host paths) added to /bin, and what is in `folder` to /. `counted` makes one
        instruction 2 ns of guest time."""
        super().__init__(log, ports)
        self._folder = Path(tempfile.mkdtemp(prefix="camd-lab-"))
        initramfs = self._folder / "initramfs"
        _pack(initramfs, [lab / "guest", *([folder] if folder else [])], programs, self._folder / "overlay")
        command = [
            "qemu-system-arm", "-M", "virt,highmem=off", "-cpu", "cortex-a15", "-m", str(memory), "-no-reboot",
            "-display", "none", "-monitor", "none", "-serial", f"file:{self.log}",
            "-kernel", lab / "vmlinuz", "-initrd", initramfs,
            "-append", "console=ttyAMA0 quiet panic=-1",
            "-netdev", f"user,id=net,restrict=on{self.forward()}", "-device", "virtio-net-device,netdev=net",
            *self.shell_device(),
        ]  # fmt: skip
        if counted:
            command += ["-icount", "shift=1,sleep=off"]
        self.start(command)
        try:
            self.run("true", timeout=self.BOOT_SECONDS)
        except BaseException:
            self.close()
            raise

    def close(self):
        super().close()
        shutil.rmtree(self._folder, ignore_errors=True)


def _pack(initramfs, folders, programs, overlay):
    """Writes an initramfs: an archive of each folder, then one with the programs. The kernel unpacks all."""
    (overlay / "bin").mkdir(parents=True)
    for program in programs:
        shutil.copy(program, overlay / "bin" / Path(program).name)
    with open(initramfs, "wb") as out:
        pack_folders(out, (*folders, overlay))


def pack_folders(out, folders):
    """Appends an archive of each folder to a file."""
    for folder in folders:
        names = b"\0".join(os.fsencode(p.relative_to(folder)) for p in [folder, *sorted(folder.rglob("*"))])
        subprocess.run(
            ["cpio", "--quiet", "--null", "--create", "--format=newc", "--owner=0:0"],
            cwd=folder, input=names, stdout=out, check=True,
        )  # fmt: skip
