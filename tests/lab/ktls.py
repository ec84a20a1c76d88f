#!/usr/bin/env python3
"""Kernel TLS: camd in a guest whose kernel has the module `tls`, clients of OpenSSL on this host.

    tests/setup ktls && cargo build && tests/lab/ktls.py

The guest is Debian's own kernel for x86-64 without KVM, and a root folder with busybox and target/debug/camd. It takes a minute.
Checked: every version and cipher is taken over by the kernel; pictures come whole, in time, and with the end told; a client that stalls
gets the newest picture; changes of keys and renegotiation end their own connection only; and a picture allocates nothing. Then the
same without the module: rustls encrypts, and allocates. The last line says what was seen.
"""

import json
import re
import shutil
import socket
import ssl
import struct
import subprocess
import sys
import time
from pathlib import Path

TOP = Path(__file__).resolve().parents[2]
FOLDER = TOP / "target/ktls"
FPS = 15
PATIENCE = 60
CONFIG = f"""
[camera]
source = "pattern"
width = 640
height = 480
fps = {FPS}
linger_s = 0
[limits]
write_timeout_s = 30
[[listener]]
protocol = "http"
bind = "0.0.0.0:8443"
tls = true
[[listener]]
protocol = "push"
bind = "0.0.0.0:8444"
tls = true
"""
INIT = """#!/bin/sh
/bin/busybox --install -s /bin
mount -t proc p /proc; mount -t sysfs s /sys; mount -t devtmpfs d /dev
modprobe -a virtio_pci virtio_net
ifconfig lo 127.0.0.1 up; ifconfig eth0 10.0.2.15 netmask 255.255.255.0 up; route add default gw 10.0.2.2
grep -q without_tls /proc/cmdline && rm -r /lib/modules/*/kernel/net/tls
export STATE_DIRECTORY=/state
# Through a pipe: on a console camd says no more than the owner needs.
LD_PRELOAD=/lib/allocations.so camd --config /camd.toml 2>&1 | cat &
while kill -0 $!; do sleep 1; [ -s /tmp/allocations ] && echo "allocations:$(od -An -t u8 /tmp/allocations)"; done
poweroff -f
"""
# What the guest needs of the kernel's modules.
MODULES = ("crypto", "arch/x86/crypto", "lib", "net/tls", "net/core", "drivers/virtio", "drivers/net/virtio_net.ko", "drivers/net/net_failover.ko")


def run(*command, **options):
    return subprocess.run([str(word) for word in command], check=True, capture_output=True, text=True, **options).stdout


def prepare():
    """Makes the guest; gives the kernel and the initramfs."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    names = run("apt-cache", "pkgnames", "linux-image-").split()
    kernels = [name for name in names if re.fullmatch(r"linux-image-\d+\.\d+\.\d+-\d+-amd64", name)]
    if not kernels:
        sys.exit("ktls: apt offers no linux-image-…-amd64")
    package = max(kernels, key=lambda name: [int(number) for number in re.findall(r"\d+", name)[:4]])
    version = package.removeprefix("linux-image-")
    tree = FOLDER / package
    if not (tree / "boot").exists():
        run("apt-get", "-q", "download", package, cwd=FOLDER)
        [archive] = FOLDER.glob(f"{package}_*.deb")
        run("dpkg", "-x", archive, tree)
        archive.unlink()
    root = FOLDER / "root"
    shutil.rmtree(root, ignore_errors=True)
    for folder in ("bin", "dev", "lib", "proc", "sbin", "state", "sys", "tmp"):
        (root / folder).mkdir(parents=True)
    modules = Path("lib/modules") / version
    for name in MODULES:
        source, target = tree / modules / "kernel" / name, root / modules / "kernel" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target)
        elif source.exists():
            shutil.copy(source, target)
    for path in (tree / modules).glob("modules.[bo]*"):
        shutil.copy(path, root / modules)
    run("depmod", "-b", root, version)
    programs = [shutil.which("busybox"), TOP / "target/debug/camd"]
    for program in programs:
        shutil.copy(program, root / "bin")
        # A static one has none.
        said = subprocess.run(["ldd", program], capture_output=True, text=True).stdout
        for library in re.findall(r"(/\S+) \(0x", said):
            (root / library[1:]).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(library, root / library[1:])
    (root / "sbin/modprobe").symlink_to("/bin/busybox")
    (root / "bin/sh").symlink_to("busybox")
    run("gcc", "-O2", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", "-o", root / "lib/allocations.so", TOP / "tests/lab/allocations.c")
    (root / "camd.toml").write_text(CONFIG)
    (root / "init").write_text(INIT)
    (root / "init").chmod(0o755)
    image = FOLDER / "initramfs.gz"
    run("bash", "-c", f"find . | cpio -o -H newc | gzip -1 >{image}", cwd=root)
    return tree / f"boot/vmlinuz-{version}", image


class Guest:
    def __init__(self, kernel, image, append=""):
        self.ports = []
        for _ in range(2):
            with socket.socket() as free:
                free.bind(("127.0.0.1", 0))
                self.ports.append(free.getsockname()[1])
        forwards = ",".join(
            f"hostfwd=tcp:127.0.0.1:{port}-:{inside}" for port, inside in zip(self.ports, (8443, 8444))
        )
        self.console = FOLDER / f"console{append}.log"
        self.process = subprocess.Popen(
            ["timeout", "300", "qemu-system-x86_64", "-M", "q35", "-accel", "tcg", "-cpu", "max", "-m", "512"]
            + ["-nographic", "-no-reboot", "-kernel", kernel, "-initrd", image]
            + ["-append", f"console=ttyS0 quiet panic=-1 {append}"]
            + ["-netdev", f"user,id=n,{forwards}", "-device", "virtio-net-pci,netdev=n"],
            stdin=subprocess.DEVNULL,
            stdout=self.console.open("w"),
            stderr=subprocess.STDOUT,
        )

    def __enter__(self):
        wait_until("camd listens", lambda: "listening: push" in self.log())
        return self

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait()

    def log(self):
        return self.console.read_text(errors="replace")

    def allocations(self):
        """As many as there were a moment ago: the guest says it each second."""
        before = len(re.findall("allocations:", self.log()))
        wait_until("two more counts", lambda: len(re.findall("allocations:", self.log())) >= before + 2)
        return int(re.findall(r"allocations: *(\d+)", self.log())[-1])

    def connect(self, port=0, version=None, cipher=None):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        if version:
            context.minimum_version = context.maximum_version = version
        if cipher:
            context.set_ciphers(cipher)
        tcp = socket.create_connection(("127.0.0.1", self.ports[port]), PATIENCE)
        # An end that was not told is an error.
        return context.wrap_socket(tcp, suppress_ragged_eofs=False)

    def get(self, target, **options):
        with self.connect(**options) as tls:
            tls.sendall(f"GET {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
            answer = b""
            while part := tls.recv(65536):
                answer += part
            head, body = answer.split(b"\r\n\r\n", 1)
            assert head.startswith(b"HTTP/1.1 200 "), head
            return body

    def clients(self):
        return json.loads(self.get("/state"))["clients"]

    def stream(self):
        tls = self.connect()
        tls.sendall(b"GET /stream HTTP/1.1\r\nHost: localhost\r\n\r\n")
        return tls


def wait_until(what, condition):
    end = time.monotonic() + PATIENCE
    while not condition():
        if time.monotonic() > end:
            sys.exit(f"ktls: not within {PATIENCE} s: {what}")
        time.sleep(0.1)


def pictures(streams, count):
    """Reads until there were so many in all."""
    seen = 0
    while seen < count:
        for tls in streams:
            seen += tls.recv(65536).count(b"--camdframe")
    return seen


def check_peers(guest):
    for version, cipher in (
        (ssl.TLSVersion.TLSv1_2, "ECDHE-ECDSA-CHACHA20-POLY1305"),
        (ssl.TLSVersion.TLSv1_2, "ECDHE-ECDSA-AES128-GCM-SHA256"),
        (ssl.TLSVersion.TLSv1_2, "ECDHE-ECDSA-AES256-GCM-SHA384"),
        (ssl.TLSVersion.TLSv1_3, None),
    ):
        jpeg = guest.get("/snapshot", version=version, cipher=cipher)
        assert jpeg.startswith(b"\xff\xd8") and jpeg.endswith(b"\xff\xd9"), (version, cipher, len(jpeg))
        [client] = json.loads(guest.get("/state", version=version, cipher=cipher))["clients"]
        assert client["tls"].endswith(" kernel"), client


def check_stall(guest):
    push = guest.connect(port=1)
    time.sleep(4)

    def picture():
        data = b""
        while len(data) < 8:
            data += push.recv(8 - len(data))
        length, again = struct.unpack("<ii", data)
        assert length == again, data
        data = b""
        while len(data) < length:
            data += push.recv(length - len(data))
        assert data.startswith(b"\xff\xd8") and data.endswith(b"\xff\xd9"), len(data)

    for _ in range(3 * FPS):
        picture()
    ages = [client["age_ms"] for client in guest.clients() if client["protocol"] == "push"]
    assert ages and max(ages) < 2000, ages
    push.close()


def check_keys(guest, viewer):
    for version, command in (("-tls1_3", b"K\n"), ("-tls1_2", b"R\n")):
        client = subprocess.Popen(
            ["openssl", "s_client", "-connect", f"127.0.0.1:{guest.ports[0]}", version],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        time.sleep(1)
        client.stdin.write(command)
        client.stdin.flush()
        # The connection ends, though its input goes on.
        client.wait(timeout=PATIENCE)
        pictures([viewer], FPS)


def check_allocations(guest, streams):
    pictures(streams, 4 * FPS)
    before = guest.allocations()
    seen = pictures(streams, 300)
    return guest.allocations() - before, seen


def main():
    kernel, image = prepare()
    with Guest(kernel, image) as guest:
        assert "TLS: the kernel encrypts" in guest.log(), "the kernel has TLS"
        check_peers(guest)
        check_stall(guest)
        streams = [guest.stream() for _ in range(4)]
        check_keys(guest, streams[0])
        made, seen = check_allocations(guest, streams)
        assert made == 0, f"{made} allocations for {seen} pictures"
        print(f"kernel: {made} allocations for {seen} pictures", end="")
    with Guest(kernel, image, "without_tls") as guest:
        assert "TLS: rustls encrypts" in guest.log(), "there is no module"
        made, seen = check_allocations(guest, [guest.stream()])
        # Or nothing is counted.
        assert made >= seen, f"{made} allocations for {seen} pictures"
        print(f"; rustls: {made} for {seen}")


if __name__ == "__main__":
    main()
