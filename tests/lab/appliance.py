"""The camera box's tests: the image as it is shipped, in QEMU, from its card. See README.md."""

import argparse
import base64
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
import socket
import struct
import subprocess
import sys
import tempfile
import time
import zlib
from pathlib import Path

from checks import FULL, Failure, Tests, check, wait_until
from guest import GuestError, Machine, pack_folders

TOP = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(TOP / "deploy/image"))
import card  # noqa: E402
import debian  # noqa: E402
import signature  # noqa: E402

UPDATE = TOP / "deploy/image/update"
PORT = 8080
BOOT_SECONDS = 240  # of a busy host's; what counts is the guest's own time
FIRST_JPEG_SECONDS = 8
POWER_CUTS = 20 if FULL else 6
POWER_CUT_MACHINES = ["virt", "virt64"] if FULL else ["virt"]
PARTITION = f"@@{card.PARTITION_START}"

PATTERN = '[camera]\nsource = "pattern"\n\n[[listener]]\nprotocol = "http"\nbind = "0.0.0.0:8080"\n'
VIVID = '[camera]\ndevice = "/dev/camd"\nfps = 10\nlinger_s = 1\n\n[[listener]]\nprotocol = "http"\nbind = "0.0.0.0:8080"\n'


def run(*command, **options):
    done = subprocess.run([*map(str, command)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, **options)
    check(done.returncode == 0, f"{command[0]} ended with {done.returncode}: {done.stdout.decode(errors='replace')}")
    return done.stdout


# -------------------------------------------------------------------------------------------------------- the card


class Card:
    """A copy of the image, as large as the card, as somebody with a PC sees it: through mtools."""

    def __init__(self, image, folder, name="card.img"):
        self.path = folder / name
        self._folders = set()
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

    def put(self, name, content):
        """A file of text, or of bytes; its folder is made if it is to have one."""
        with tempfile.NamedTemporaryFile() as file:
            file.write(content.encode() if isinstance(content, str) else content)
            file.flush()
            for folder in list(Path(name).parents)[-2::-1]:
                if folder not in self._folders:
                    run("mmd", "-i", self._drive, f"::{folder}")
                    self._folders.add(folder)
            run("mcopy", "-o", "-i", self._drive, file.name, f"::{name}")

    def password(self):
        return card.password_of(self.read(card.PASSWORD).encode())

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

    def __init__(self, lab, card_, machine="virt", hook="", counted=False, log="console.log", extra=(), ports=(PORT,),
                 write_protected=False):  # fmt: skip
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
            kernel.write_bytes(zlib.decompressobj(31).decompress(kernel.read_bytes()))
        self._overlay(lab, folder, initramfs, number, hook)
        # Its model of USB takes minutes to find a network adapter, so raspi2b has only its card and its console.
        network = f"user,id=net,restrict=on{self.forward()}"
        drive = f"file={card_.path},format=raw,if={{}},id=card,cache=writethrough" + ",readonly=on" * write_protected
        common = ["-m", "1024" if machine == "raspi2b" else "512", "-no-reboot", "-display", "none", "-monitor", "none",
                  "-serial", f"file:{self.log}", "-kernel", kernel, "-initrd", initramfs]  # fmt: skip
        if machine == "raspi2b":
            # QEMU's processors that wait for work spin, and three of them would take the host from the one that has some.
            command_line += " maxcpus=1"
            tree = card_.get(f"{self.slot}/bcm2836-rpi-2-b.dtb", folder / "tree.dtb")
            command = ["qemu-system-arm", "-M", "raspi2b", "-global", "bcm2836.enabled-cpus=1", "-dtb", tree, "-drive",
                       drive.format("sd")]  # fmt: skip
        else:
            kind = ["qemu-system-aarch64", "-M", "virt", "-cpu", "cortex-a72"] if number == "8" else [
                "qemu-system-arm", "-M", "virt,highmem=off", "-cpu", "cortex-a15"]  # fmt: skip
            command = [*kind, "-drive", drive.format("none"), "-device", "virtio-blk-device,drive=card",
                       *extra, "-netdev", network, "-device", "virtio-net-device,netdev=net", *self.shell_device()]  # fmt: skip
        if counted:
            command += ["-icount", "shift=0"]
        self.log.write_text("")
        self.start([*command, *common, "-append", command_line])

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

    def get(self, path, timeout=10, port=PORT, password=None):
        """With the login of its card, or another password; with "" as a stranger."""
        if password is None:
            password = self.card.password()
        code = base64.b64encode(f"{card.USER}:{password}".encode()).decode()
        connection = http.client.HTTPConnection("127.0.0.1", self.ports[port], timeout=timeout)
        try:
            connection.request("GET", path, headers={"Authorization": f"Basic {code}"} if password else {})
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    def try_get(self, path, timeout=10, port=PORT):
        try:
            return self.get(path, timeout, port)
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

        # What is sent to a box that is not up yet is lost, so ask again soon; but a busy host's box needs its time.
        patience = 0.5

        def picture():
            nonlocal patience
            check(self.on(), f"the box went off{self.tail()}")
            status, body = self.try_get("/snapshot", patience)
            if "has the address" in self.console():
                patience = min(patience * 1.5, 10)
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
    def __init__(self, options, group):
        # Links are made in it, which lead nowhere from elsewhere unless they are absolute.
        self.folder = options.folder.resolve() / group
        self.image, self.camd, self.over = options.image, options.camd, options.over
        self.lock, self.hostapd, self.work = options.lock, options.hostapd, TOP / "target/image"
        self.logs = self.folder / "logs"
        self.logs.mkdir(parents=True, exist_ok=True)
        self.box = None
        for name in ("poweron", "control"):
            run("arm-linux-gnueabihf-gcc", "-std=gnu11", "-O2", "-static", "-Wall", "-Wextra", "-Werror", "-o",
                self.folder / name, TOP / f"tests/lab/guest/{name}.c")  # fmt: skip

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

    def close(self):
        """Also after a failed test."""
        self.off()

    def explain(self):
        """The errors themselves tell how the console ends."""

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
test = Tests()


# ---------------------------------------------------------------------------------------------------------- the image


@test("built twice: the same bytes, at most 64 MiB, a sound file system, licences and a bill of everything")
def _(lab):
    again = lab.folder / "again.img"
    build = [TOP / "deploy/image/build", "--camd", lab.camd, "--lock", lab.lock, "-o", again]
    said = run(*build).decode()
    # All but the login.
    disk = card.Disk(again)
    passwords = [lab.card().password(), card.password_of(disk.get(card.PASSWORD))]
    check(passwords[0] != passwords[1] and all(re.fullmatch("[a-z2-7]{16}", it) for it in passwords), f"{passwords}")
    check(f"user {card.USER}, password {passwords[1]} " in said and "http://camd-XXXX.local:8080/" in said, said)
    for folder in ("", f"{card.SHIPPED}/"):
        disk.write(folder + card.PASSWORD, card.password_text(passwords[0]))
    disk.close()
    done = subprocess.run([*build, "--password", " x"], capture_output=True, text=True)
    check(done.returncode == 1 and "a password is 1 to 256 bytes" in done.stderr, done.stderr)
    sums = [hashlib.sha256(path.read_bytes()).hexdigest() for path in (lab.image, again)]
    check(sums[0] == sums[1], "two builds differ")
    run("sha256sum", "-c", f"{lab.image.name}.sha256", cwd=lab.image.parent)
    # Signed as a whole, and the list of its parts for a box that is sent it; by a key that nobody else can read.
    key = signature.default_key()
    check(key.stat().st_mode & 0o77 == 0 and key.parent.stat().st_mode & 0o77 == 0, f"others can read {key}")
    public, said = Path(f"{lab.image}.pub"), run("minisign", "-V", "-m", lab.image, "-p", f"{lab.image}.pub").decode()
    with open(lab.image, "rb") as file:
        file.seek(signature.PLACE)
        listed, _, signed = file.read(signature.SIZE).rstrip(b"\0").partition(b"\n\n")
    (lab.folder / "list").write_bytes(listed + b"\n")
    (lab.folder / "list.minisig").write_bytes(signed)
    run("minisign", "-V", "-m", lab.folder / "list", "-p", public)
    [version] = re.findall(r"^version (camd .*)$", listed.decode(), re.M)
    check(f"Trusted comment: {version}, built " in said, f"{said}")
    check(re.findall(r"^part .*$", listed.decode(), re.M) == ["part " + " ".join(map(str, it)) for it in signature.parts(lab.image)],
          "the list of parts")  # fmt: skip
    with open(lab.folder / "list", "ab") as file:
        file.write(b"part 1")
    done = subprocess.run(["minisign", "-V", "-m", lab.folder / "list", "-p", public], capture_output=True)
    check(done.returncode != 0, "minisign takes another list")
    [trusted] = re.findall(r"^trusted comment: (.*)$", Path(f"{lab.image}.minisig").read_text(), re.M)
    check(signature.Key(key).sign(again, trusted) == Path(f"{lab.image}.minisig").read_text(), "two signatures of the same bytes differ")
    for more in (".pub", ".cdx.json"):
        check(Path(f"{lab.image}{more}").read_bytes() == Path(f"{again}{more}").read_bytes(), f"two builds' {more} differ")
    done = subprocess.run([*build, "--key", lab.folder / "none"], capture_output=True, text=True)
    check(done.returncode == 1 and f"there is no {lab.folder / 'none'}" in done.stderr, done.stderr)
    [entry] = json.loads(Path(f"{lab.image}.json").read_text())["os_list"]
    url = lab.image.resolve().as_uri()
    wanted = {"extract_sha256": sums[0], "extract_size": again.stat().st_size, "url": url, "init_format": "none"}
    check({key: entry[key] for key in wanted} == wanted, f"{entry}")
    # What is on it is whole, and is what an update and --reset go by.
    disk = card.Disk(again, write=False)
    card.verify(disk, "a")
    check(not disk.misplaced(), "select.txt does not say where it lies")
    for name in ("camd.toml", card.PASSWORD, "wifi.conf", "network.conf", "hostname", "timezone"):
        check(disk.shipped(name) == disk.get(name) and disk.get(name), f"{card.SHIPPED}/{name}")
    disk.close()
    again.unlink()
    size = lab.image.stat().st_size
    check(size <= 64 << 20, f"{size} bytes")
    made = lab.card()
    made.fsck()
    text = made.read("licences.txt")
    for package in debian.read_lock(lab.lock):
        check(f"{package.name} {package.version}" in text, f"licences.txt has no {package.name} {package.version}")
    check("\nmio 1." in text, "licences.txt has no mio, which camd is made of")
    # The bill of materials is looked at more closely in tests/package.
    check(made.read("camd-pi.cdx.json") == Path(f"{lab.image}.cdx.json").read_text(), "the bill beside the image is another one")
    parts = json.loads(made.read("camd-pi.cdx.json"))["components"]
    digest = hashlib.sha256(lab.camd.read_bytes()).hexdigest()
    check(parts[0]["name"] == "camd" and parts[0]["hashes"][0]["content"] == digest, "the bill is of another camd")
    named = {(part["name"], part["version"], part.get("hashes", [{}])[0].get("content")) for part in parts}
    for package in debian.read_lock(lab.lock):
        check((package.name, package.version, package.sha256) in named, f"the bill has no {package.name} {package.version}")
    check("mio" in {part["name"] for part in parts}, "the bill has no mio, which camd is made of")
    return f"{size / (1 << 20):.1f} MiB, SHA-256 {sums[0][:16]}"


@test("packages: another checksum or version is refused, and the way out is named")
def _(lab):
    lines = Path(lab.lock).read_text().splitlines()
    for change in (lambda f: [*f[:3], "0" * 64], lambda f: [f[0], f[1], "0:1", f[3]]):
        changed = lab.folder / "changed.lock"
        fields = lines[-1].split()
        changed.write_text("\n".join([*lines[:-1], " ".join(change(fields))]) + "\n")
        done = subprocess.run(
            [TOP / "deploy/image/build", "--camd", lab.camd, "--lock", changed, "-o", lab.folder / "changed.img"],
            capture_output=True, text=True,
        )  # fmt: skip
        said = f"{fields[0]} {change(fields)[2]} ({change(fields)[3]}), and Debian now has {fields[2]} ({fields[3]})"
        check(done.returncode == 1 and said in done.stderr, f"exit code {done.returncode}: {done.stderr}")
        check("Way out: deploy/image/lock" in done.stderr, done.stderr)
    return "both"


# ---------------------------------------------------------------------------------------------------------- the boot


@test(f"virt: from power-on to the first JPEG in at most {FIRST_JPEG_SECONDS} s of guest time")
def _(lab):
    lan = Lan()
    box = lab.boot(lab.card(camd_toml=PATTERN), counted=True, extra=lan.device)
    box.first_jpeg()
    seconds = float(box.run("/lab/poweron", timeout=BOOT_SECONDS))
    kernel = float(box.run("cut -d' ' -f1 /proc/uptime"))
    check(seconds <= FIRST_JPEG_SECONDS, f"{seconds} s{box.tail()}")
    box.lan = lan
    return f"{seconds:.2f} s, {seconds - kernel:.2f} s of it before the kernel's clock starts"


def running(lab):
    if not lab.box or not lab.box.on() or not hasattr(lab.box, "lan"):
        lan = Lan()
        lab.boot(lab.card(camd_toml=PATTERN), extra=lan.device).lan = lan
        lab.box.first_jpeg()
    return lab.box


@test("network: an address from DHCP, the name is answered by mDNS, no port is open but the configured one")
def _(lab):
    box = running(lab)
    box.wait_for("ip -4 address show dev eth0 | grep -q 'inet 10\\.0\\.2\\.'", 60, "an address")
    name = box.run("hostname").strip()
    check(name == "camd-3456", f"the name is {name}, and the MAC ends in 34:56")
    box.wait_for("pidof avahi-daemon && pidof chronyd", 60, "avahi-daemon and chronyd run")
    answer = box.lan.resolve(f"{name}.local", 60)
    ports = {}
    for kind in ("tcp", "udp"):
        lines = box.run(f"tail -q -n +2 /proc/net/{kind} /proc/net/{kind}6").splitlines()
        # Listening, or taking from everybody; an NTP request that is on its way is neither.
        state = {"tcp": "0A", "udp": "07"}[kind]
        fields = [line.split() for line in lines]
        ports[kind] = {int(f[1].rpartition(":")[2], 16) for f in fields if f[3] == state}
    check(ports["tcp"] == {PORT}, f"TCP ports {ports['tcp']}")
    # 68: the DHCP client, while it renews.
    check(5353 in ports["udp"] and ports["udp"] <= {5353, 68}, f"UDP ports {ports['udp']}")
    return f"{name}.local is {answer}; TCP {sorted(ports['tcp'])}, UDP {sorted(ports['udp'])}"


@test("camd runs without any privilege, nobody can log in, and the root folder is not camd's to write")
def _(lab):
    box = running(lab)
    # The one that serves, its broker, and its cells. The updater writes to the card: it reads nothing before its signature.
    serving = "for p in $(pidof camd); do grep -q box-update /proc/$p/cmdline || { cat /proc/$p/status; echo; }; done"
    processes = box.run(serving).strip().split("\n\n")
    check(len(processes) > 1, f"{len(processes)} processes")
    for status in processes:
        fields = dict(line.split(":", 1) for line in status.splitlines() if ":" in line)
        check(fields["Uid"].split() == ["100"] * 4 and fields["Gid"].split() == ["100"] * 4, f"{fields['Uid']}")
        check(fields["Groups"].split() == ["44"], f"groups {fields['Groups']}")
        for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
            check(int(fields[name], 16) == 0, f"{name} is {fields[name]}")
        check(fields["NoNewPrivs"].strip() == "1", "new privileges are possible")
    writable = box.run("find / -xdev -path /proc -prune -o -path /lab -prune -o ! -type l ! -type s -perm -2 -print").split()
    writable = [path for path in writable if not path.startswith(("/dev", "/sys"))]
    check(not writable, f"everybody can write {writable}")
    programs = "getty login sshd telnetd dropbear su"
    found = box.run(f"for p in {programs}; do ls -d /usr/*/$p /usr/*/*/$p; pidof $p; done 2>/dev/null; true")
    check(not found, f"there is {found}")
    check("/bin/sh" not in box.run("cut -d: -f7 /etc/passwd"), "somebody has a shell")
    return "uid 100, no capability"


# There is no shell on raspi2b: each state of the light is told on its console.
LIGHT_HOOK = """(while :; do
    for led in /sys/class/leds/ACT; do
        [ -e "$led/trigger" ] || continue
        new=$(sed 's/.*\\[\\(.*\\)\\].*/\\1/' "$led/trigger")
        case $new in
        timer) new="timer $(cat "$led/delay_on") $(cat "$led/delay_off")" ;;
        none) new="none $(cat "$led/brightness")" ;;
        esac
        [ "$new" = "$old" ] || echo "light: $new" >/dev/kmsg
        old=$new
    done
    usleep 50000
done) &
"""


def raspi2b(lab):
    """One that is on already, if there is one: it takes minutes to boot. Nothing is wrong with it but that QEMU gives it no
    network."""
    if not lab.box or not lab.box.on() or not hasattr(lab.box, "is_raspi2b"):
        # QEMU's model of the watchdog resets at once when that is started, and it has no VideoCore, which vchiq and vc4 need.
        hook = "for m in bcm2835_wdt vchiq vc4; do rm -f $(find /lib/modules/ -name $m.ko); done\n" + LIGHT_HOOK
        made = lab.card(camd_toml=PATTERN.replace("8080", "8123"), hostname="# mine\r\n\r\n garden \r\n")
        lab.boot(made, machine="raspi2b", hook=hook).is_raspi2b = True
        lab.box.wait_console("listening: http on 0.0.0.0:8123", timeout=600)
    return lab.box


@test("raspi2b: boots from its SD card, and takes camd.toml from it")
def _(lab):
    box = raspi2b(lab)
    check("no card" not in box.console(), box.tail())
    check(box.card.errors() == "No errors.", box.card.errors())
    return re.search(r"\[ *([0-9.]+)\][^\n]*listening", box.console())[1] + " s of kernel time on this host"


@test("raspi2b: the light is on until all has been checked, then it beats, and blinks fast when something is wrong")
def _(lab):
    box = raspi2b(lab)

    def lights():
        return [line.strip() for line in re.findall(r"light: (.*)", box.console())]

    wait_until(lambda: lights()[-2:-1] == ["none 1"] and lights()[-1] == "heartbeat" or "timer 100 100" in lights(), 600,
               lambda: f"it beats: {lights()}{box.tail()}")  # fmt: skip
    # By and by the box notices that it has no network.
    wait_until(lambda: "there is no cable" in box.card.errors(), 600, box.card.errors)
    wait_until(lambda: lights()[-1] == "timer 100 100", 60, lambda: f"it blinks: {lights()}{box.tail()}")
    # The device tree has it beat until the box's first words.
    told = lights()[lights()[0] == "heartbeat" :]
    check([light for light in told if light not in ("none 0", "timer 500 500", "timer 0 0")]
          == ["none 1", "heartbeat", "timer 100 100"], f"{lights()}")  # fmt: skip
    return ", ".join(told)


@test("virt, 64 bit: the kernel of Pi 4 with the same programs serves a picture")
def _(lab):
    box = lab.boot(lab.card(camd_toml=PATTERN), machine="virt64")
    box.first_jpeg()
    return box.run("uname -rm").strip()


# ------------------------------------------------------------------------------------------------------ configuration


@test("camd.toml from a PC takes effect on the next boot, with Windows' line ends too")
def _(lab):
    made = lab.card(camd_toml="\ufeff" + PATTERN.replace("\n", "\r\n").replace("[camera]", '[camera]\r\nname = "porch"\r\nwidth = 320'))
    box = lab.boot(made)
    box.first_jpeg()
    state = json.loads(box.get("/state")[1])
    check("porch" in json.dumps(state) and state["camera"]["width"] == 320, f"{state}")
    check(made.errors() == "No errors.", made.errors())
    return "name and width"


@test("several cameras: a camd each, whose pages link to each other; a file with errors stops its own camera alone")
def _(lab):
    listener = '\n[[listener]]\nprotocol = "http"\nbind = "0.0.0.0:%d"\n'
    made = lab.card(camd_toml=PATTERN)
    # Of the owner's own files: pictures, and a program.
    jpeg = (TOP / "tests/common/base.jpg").read_bytes()
    made.put("files/yard/1.jpg", jpeg)
    made.put("camd-2.toml", '[camera]\nname = "yard"\nsource = "replay"\npath = "/files/yard"\n' + listener % 8082)
    made.put("files/grab.sh", "#!/bin/sh\nwhile :; do cat /files/yard/1.jpg; sleep 0.2; done\n")
    made.put("camd-3.toml", '[camera]\nname = "gate"\nsource = "pipe"\ncommand = ["/files/grab.sh"]\n' + listener % 8083)
    made.put("camd-4.toml", '[camera]\nsource = "patern"\n' + listener % 8084)
    box = lab.boot(made, ports=(PORT, 8082, 8083))
    box.first_jpeg()
    for port in (8082, 8083):
        shown = wait_until(lambda: (a := box.try_get("/snapshot", port=port))[0] == 200 and a[1], 60, box.tail)
        check(shown == jpeg, f"{port} shows another picture")

    def links(port):
        return {it["name"]: it["url"] for it in json.loads(box.get("/state", port=port)[1])["neighbours"]}

    check(links(PORT) == {"Camera 2": ":8082", "Camera 3": ":8083"}, f"{links(PORT)}")
    check(links(8082) == links(8083) == {"Camera 1": ":8080"}, f"{links(8082)}, {links(8083)}")
    text = wait_until(lambda: "camd-4.toml" in (t := made.errors()) and t, 60, made.errors)
    check("patern" in text and "This camera is off until camd-4.toml is right." in text, text)
    check(not re.search("camd(-[23])?[.]toml", text), text)
    # One that dies comes back, and the others stay.
    before = box.run("cat /run/camd.pid /run/camd-3.pid").split()
    box.run("kill -KILL $(cat /run/camd-2.pid)")
    wait_until(lambda: box.try_get("/snapshot", port=8082)[1] == jpeg, 60, box.tail)
    check(box.run("cat /run/camd.pid /run/camd-3.pid").split() == before, "another camd went with it")
    check("camd-2 ended with code 137" in made.errors(), made.errors())
    return ", ".join(line for line in text.splitlines() if "camd-4" in line)


@test("a broken camd.toml: console, status page and camd-errors.txt say so, the default is in force; all ends when it is right")
def _(lab):
    made = lab.card(camd_toml=PATTERN + "[camera2]\nwith = 3\n", timezone="Mars/Olympus\n")
    box = lab.boot(made)
    box.wait_console("listening")
    line = "camd.toml:7"
    box.wait_console(line)
    status, body = wait_until(lambda: (a := box.try_get("/state"))[0] and a, 60, "an answer")
    # Who breaks the file does not open the door.
    check(status == 200 and box.get("/state", password="")[0] == 401, "the shipped settings let everybody in")
    errors = json.loads(body)["config_errors"]
    check(any(line in error for error in errors), f"/state: {errors}")
    page = box.get("/")[1].decode()
    check("config_errors" in page, "the page does not look at config_errors")
    text = wait_until(lambda: line in (t := made.errors()) and t, 30, made.errors)
    check("shipped settings" in text and "Mars/Olympus" in text, text)
    check("/dev/camd" in json.dumps(json.loads(body)["camera"]), f"not the default: {body}")
    made.put("camd.toml", PATTERN)
    made.put("timezone", "Europe/Berlin\n")
    box = lab.boot(made)
    box.first_jpeg()
    check("config_errors" not in json.loads(box.get("/state")[1]) or not json.loads(box.get("/state")[1])["config_errors"],
          "errors remain")  # fmt: skip
    check(made.errors() == "No errors.", made.errors())
    check(box.run("date +%Z", timeout=20).strip() in ("CET", "CEST"), "the time zone is not Berlin's")
    made.fsck()
    return text.splitlines()[0]


@test("the login: the image's own; one for another card; one that the box makes itself; and nobody without one")
def _(lab):
    made = lab.card()
    first = made.password()
    vivid = lab.load("7", "vivid", parameters=VIVID_PARAMETERS)
    box = lab.boot(made, hook=vivid)
    box.first_jpeg()
    for path in ("/", "/stream", "/snapshot", "/state", "/metrics", "/controls"):
        check(box.get(path, password="")[0] == 401, f"{path} is for everybody")
    check(box.get("/snapshot", password="a" + first)[0] == 401, "another password")
    # Neither the trial of an update nor whoever else looks after the box needs a login.
    check(box.get("/healthz", password="")[0] == 200, "/healthz")
    wait_until(lambda: made.errors() == "No errors.", 60, made.errors)
    controls = json.loads(box.get("/state")[1])["you"]
    check(controls == {"user": card.USER, "sets_controls": True, "updates": True}, f"{controls}")
    code, said = box.try_run(f"dmesg | grep {first}")
    check(code != 0, f"the log has the password: {said}")
    code, _ = box.try_run("/usr/bin/setpriv --reuid 65534 --regid 65534 --clear-groups -- cat /etc/password.txt")
    check(code != 0, "everybody on the box can read it")
    lab.off()
    # The same image on another card.
    said = run(UPDATE, "--password", made.path).decode()
    second = made.password()
    check(second != first and f"user {card.USER}, password {second} " in said, said)
    box = lab.boot(made, hook=vivid)
    box.first_jpeg()
    wait_until(lambda: box.get("/snapshot", password=first)[0] == 401, 30, "the old one is of no use")
    lab.off()
    said = run(UPDATE, "--reset", made.path).decode()
    check(made.password() == first and first in said, said)
    # As an image that is for others has it, and as a PC's editor writes it.
    disk = card.Disk(made.path)
    disk.write(card.PASSWORD, card.password_text(""))
    disk.close()
    check(made.password() == "", "there is one")
    box = lab.boot(made, hook=vivid)
    box.wait_console("the page's login is new: user camd, password ")
    [third] = re.findall("user camd, password ([a-z2-7]{16});", box.console())
    wait_until(lambda: made.password() == third, 60, made.password)
    box.first_jpeg()
    lab.off()
    made.fsck()
    check(len(made.read(card.PASSWORD)) == card.SECTOR and "You may write another one" in made.read(card.PASSWORD), made.read(card.PASSWORD))
    made.put(card.PASSWORD, "\ufeff  correct horse \r\n")
    box = lab.boot(made, hook=vivid)
    box.first_jpeg()
    check(third not in box.console(), "a login that is there already is new")
    # Emptied, where the box cannot write it.
    made.put(card.PASSWORD, "\r\n")
    box = lab.boot(made, hook=vivid)
    box.wait_console("the page's login until the next start: user camd, password ")
    [fourth] = re.findall("until the next start: user camd, password ([a-z2-7]{16})", box.console())
    wait_until(lambda: box.try_get("/snapshot")[0] == 401, BOOT_SECONDS, "nobody is let in")
    check(box.get("/state", password=fourth)[0] == 200, "with the one that the console shows")
    wait_until(lambda: "password.txt on the card has no password in its first line" in made.errors(), 60, made.errors)
    check(fourth not in made.errors(), made.errors())
    lab.off()
    return "four"


@test("a camd that cannot start: camd-errors.txt has its last words")
def _(lab):
    made = lab.card(camd_toml=PATTERN.replace("0.0.0.0", "192.0.2.1"))
    lab.boot(made).wait_console("camd ended with code 1")
    text = wait_until(lambda: "last words" in (t := made.errors()) and t, 30, made.errors)
    check(re.search(r"\] camd: cannot listen on 192\.0\.2\.1:8080 for http: ", text), text)
    check("Kernel command line" not in text, text)
    return text.splitlines()[-1]


WIFI = "wifi.conf"
WIFI_HOOK = """mkdir -p /run/net.wlan1
"""
HOSTAPD = """interface=wlan1
driver=nl80211
ssid=Lab's "net"
hw_mode=g
channel=6
wpa=2
wpa_key_mgmt=WPA-PSK
rsn_pairwise=CCMP
wpa_passphrase=it is a secret
"""


@test("Wi-Fi: wifi.conf's network is joined, on simulated radios, with WPA2, and gives an address")
def _(lab):
    # Not the name that the guests of other tests have by their serial number.
    made = lab.card(camd_toml=PATTERN, hostname="radio\n", wifi_conf='# home\r\nssid = Lab\'s "net"\r\npassword = it is a secret\r\ncountry = DE\r\n')
    hook = WIFI_HOOK + lab.load("7", "mac80211_hwsim", parameters="radios=2")
    hook += f"# file {lab.hostapd} lab/hostapd\nchmod 755 /lab/hostapd\n"
    box = lab.boot(made, hook=hook)
    box.wait_for("[ -e /sys/class/net/wlan1 ]", BOOT_SECONDS, "radios")
    # Nobody has switched the router on, and then somebody has changed its password.
    wait_until(lambda: "there is no network 'Lab's \"net\"' in reach" in made.errors(), 300, made.errors)
    box.write("/lab/hostapd.conf", HOSTAPD.replace("a secret", "another secret"))
    box.run("/lab/hostapd -B -P /lab/hostapd.pid /lab/hostapd.conf", timeout=60)
    wait_until(lambda: "'Lab's \"net\"' refuses the password" in made.errors(), 300, made.errors)
    # What the card says comes there next.
    problems = lambda: (json.loads(box.try_get("/state")[1] or "{}").get("box") or {}).get("problems") or []
    wait_until(lambda: len(problems()) == 1 and "refuses the password" in problems()[0], 60, problems)
    box.run("kill $(cat /lab/hostapd.pid); sleep 1")
    box.write("/lab/hostapd.conf", HOSTAPD)
    box.write("/lab/udhcpd.conf", "start 192.168.77.20\nend 192.168.77.29\ninterface wlan1\noption subnet 255.255.255.0\n"
              "lease_file /lab/leases\npidfile /lab/udhcpd.pid\n")  # fmt: skip
    box.run("touch /lab/leases; ip address add 192.168.77.1/24 dev wlan1; /lab/hostapd -B /lab/hostapd.conf && "
            "udhcpd -S /lab/udhcpd.conf", timeout=60)  # fmt: skip
    box.wait_for("ip -4 address show dev wlan0 | grep -q 'inet 192\\.168\\.77\\.2'", 300, "an address by Wi-Fi")
    wait_until(lambda: made.errors() == "No errors.", 60, made.errors)
    # Who takes camd over does not have the network's password with it.
    for path in ("/run/card/wifi.conf", "/run/wpa.conf", "/run/card/camd.toml"):
        code, said = box.try_run(f"/usr/bin/setpriv --reuid camd --regid camd --clear-groups -- cat {path}")
        check(code != 0 and "secret" not in said, f"camd can read {path}")
    return box.run("ip -4 -o address show dev wlan0").split()[3]


# A camera that is not there, and an address as few write it.
ABSENT = """listener = [
  { "protocol" = 'http', bind = \"\"\"[::]:80\\u0038\\
0\"\"\" },
]
camera = { device = "/dev/camd", linger_s = 0 }
"""


@test("a second box of the same name, no camera, no cable: on the card and in /state, and gone when it is well again")
def _(lab):
    made = lab.card(camd_toml=ABSENT, hostname="garden\n")
    lan = Lan()
    vivid = lab.load("7", "vivid", parameters=VIVID_PARAMETERS)
    hook = insmod("vivid") + f"cat >/lab/camera <<'END'\n{vivid}END\n"
    box = lab.boot(made, hook=hook, extra=lan.device)
    lan.claim_until("garden.local", lambda: "the name is garden-" in box.console(), BOOT_SECONDS)
    said = "another device in the network is called garden, so this box is garden-"
    wait_until(lambda: said in made.errors(), 120, made.errors)
    wait_until(lambda: "there is no camera at /dev/camd" in made.errors(), 120, made.errors)
    state = wait_until(lambda: (a := box.try_get("/state"))[0] == 200 and (b := json.loads(a[1])["box"]) and
                       len(b["problems"]) == 2 and b, 60, "/state says both")  # fmt: skip
    check(re.fullmatch(r"garden-\d", state["name"]), f"{state}")
    wanted = {"network": "eth0, cable", "address": "10.0.2.15", "signal_dbm": None, "clock": "battery",
              "card": "writable", "slot": "a", "notes": []}  # fmt: skip
    check({key: state[key] for key in wanted} == wanted, f"{state}")
    check(0 < state["memory_free_kib"] < state["memory_kib"], f"{state}")
    check(state["version"].startswith("camd "), f"{state}")
    # The other network has no DHCP: there the box has an address of its own.
    box.wait_for("ip -4 address show dev eth1 | grep -q 'inet 169\\.254\\.'", 120, "a link-local address")
    box.run("ip link set eth0 down; ip link set eth1 down; . /lab/camera")
    wait_until(lambda: "there is no cable" in made.errors(), 120, made.errors)
    wait_until(lambda: "no camera" not in made.errors(), 120, made.errors)
    box.run("ip link set eth0 up; ip link set eth1 up")
    wait_until(lambda: "there is no cable" not in made.errors(), 120, made.errors)
    box.first_jpeg()
    check(re.search(r"no longer so: network: there is no cable", box.console()), box.tail())
    return ", ".join(key for key in state if state[key])


@test("network.conf: an address without DHCP, with its gateway and its servers")
def _(lab):
    # QEMU leads to this one.
    conf = "address = 10.0.2.15/24 # mine\r\ngateway=10.0.2.2\r\ndns = 10.0.2.3\r\nntp = 10.0.2.4\r\n"
    made = lab.card(camd_toml=PATTERN, network_conf=conf)
    box = lab.boot(made)
    box.first_jpeg()
    check("default via 10.0.2.2 dev eth0" in box.run("ip -4 route"), box.run("ip -4 route"))
    check(box.run("cat /run/resolv.conf") == "nameserver 10.0.2.3\n", "the name server")
    check("server 10.0.2.4 iburst" in box.run("cat /run/ntp/box.sources"), "the time server")
    check(box.try_run("pidof udhcpc")[0] != 0, "DHCP is asked all the same")
    # Files that are none: said, and nothing of them is used. A name that Windows shows without its end.
    made.put("network.conf", "address = 10.0.2.300/24\n")
    made.put("camd.toml", "#" * 70000)
    made.put("wifi.conf", "")
    made.put("hostname.txt", "garden\n")
    box = lab.boot(made)
    text = wait_until(lambda: (t := made.errors()) != "No errors." and t, BOOT_SECONDS, "something is said")
    text = wait_until(lambda: "network.conf:1" in (t := made.errors()) and t, 60, made.errors)
    for wanted in ("network.conf:1: address is '10.0.2.300/24'", "camd.toml has 70000 bytes, and no more than 65536",
                   "hostname.txt is not read: its name must be hostname.", "Note: wifi.conf is empty (0 bytes)."):  # fmt: skip
        check(wanted in text, f"no {wanted!r} in {text}")
    wait_until(lambda: box.try_get("/state")[0] == 200, BOOT_SECONDS, "the shipped settings serve")
    return "said and used"


@test("where health looks, and which URL is told, for each kind of listener")
def _(lab):
    script = f". {TOP / 'deploy/image/root/usr/lib/box/common'}; http_listener -2; http_url -2 box; http_port -2"
    for listeners, wanted in (
        ("listener http 0.0.0.0:8080", "0.0.0.0 8080\nhttp://box:8080/\n8080\n"),
        ("listener push 0.0.0.0:81\nlistener http [::]:80", "[::] 80\nhttp://box:80/\n80\n"),
        # Only this box itself reaches it.
        ("listener http 127.0.0.1:8080", "127.0.0.1 8080\n\n"),
        ("listener http [::1]:8080\nlistener http 192.168.1.5:82", "[::1] 8080\nhttp://box:82/\n82\n"),
        # Health prefers one without TLS, which it can ask.
        ("listener http [::]:443 tls\nlistener http 127.0.0.1:80", "127.0.0.1 80\nhttps://box:443/\n443\n"),
        ("listener http [::]:443 tls", "[::] 443 tls\nhttps://box:443/\n443\n"),
        ("listener http unix:/run/x:1\nlistener call relay:host:5", "\n"),
    ):
        (lab.folder / "camd-2.list").write_text(f"camera pattern\n{listeners}\n")
        said = run("busybox", "sh", "-c", script, env={**os.environ, "LISTS": str(lab.folder)}).decode()
        check(said == wanted or said.split() == wanted.split(), f"{listeners!r} gave {said!r}")
    return "7 kinds"


@test("the box finds select.txt, camd-errors.txt and password.txt where they lie, wherever an editor has written them")
def _(lab):
    script = TOP / "deploy/image/root/usr/lib/box/fat"
    made = lab.card()
    partition = lab.folder / "partition"

    def found():
        run("dd", f"if={made.path}", f"of={partition}", "bs=1M", f"skip={card.PARTITION_START // card.MIB}", "count=16", "status=none")
        lines = run("busybox", "sh", script, partition).decode().split("\n")
        return {name: (int(sector), int(size)) for name, sector, size in map(str.split, filter(None, lines))}

    def lie():
        fat = card.Disk(made.path, write=False).fat
        names = {"select": card.SELECT, "errors": card.ERRORS, "password": card.PASSWORD}
        places = {name: fat.extent(file) for name, file in names.items()}
        return {name: ((offset - fat.start) // card.SECTOR, size) for name, (offset, size) in places.items()}

    first = lie()
    check(found() == first, f"{found()}, not {first}")
    # Its old place still looks the same.
    text = made.read(card.SELECT)
    made.put("copy", "x" * 5000)
    made.put(card.SELECT, text + "# mine\n")
    run("mdel", "-i", f"{made.path}{PARTITION}", "::copy")
    check(found() == lie() and lie()["select"] != first["select"], f"{found()}, not {lie()}")
    # Behind more entries than a short look takes in.
    for number in range(130):
        made.put(f"n{number}", "")
    run("mdel", "-i", f"{made.path}{PARTITION}", f"::{card.SELECT}")
    made.put("n130", "")
    made.put(card.SELECT, text)
    check(found() == lie(), f"{found()}, not {lie()}")
    partition.unlink()
    return f"{first}, {lie()}"


@test("cameras have the names that udev gives them, and /dev/camd is the USB camera")
def _(lab):
    script = TOP / "deploy/image/root/usr/lib/box/video"
    base = lab.folder / "sys"
    shutil.rmtree(base, ignore_errors=True)
    dev = base / "dev"
    dev.mkdir(parents=True)

    def add(number, name, device, index=0):
        entry = base / f"class/video4linux/video{number}"
        entry.mkdir(parents=True)
        (entry / "index").write_text(f"{index}\n")
        (entry / "name").write_text(f"{name}\n")
        (base / device).mkdir(parents=True, exist_ok=True)
        (entry / "device").symlink_to(base / device)
        event("add", number)

    def event(action, number):
        environment = {**os.environ, "ACTION": action, "MDEV": f"video{number}", "SYS": str(base), "DEV": str(dev)}
        run("busybox", "sh", script, env=environment)

    def links():
        return {str(path.relative_to(dev)): path.resolve().name for path in dev.rglob("*") if path.is_symlink()}

    add(0, "mmal service 16.1", "devices/platform/bcm2835-camera")
    module = {"v4l/by-path/platform-bcm2835-camera-video-index0": "video0"}
    check(links() == {"camd": "video0", **module}, f"{links()}")
    unit = "devices/platform/soc/3f980000.usb/usb1/1-1/1-1.2"
    for name, text in (("manufacturer", "Example  Inc."), ("product", "HD/Cam"), ("serial", "00 1")):
        (base / unit).mkdir(parents=True, exist_ok=True)
        (base / unit / name).write_text(text + "\n")
    add(1, "HD Cam", f"{unit}/1-1.2:1.0", 0)
    add(2, "HD Cam", f"{unit}/1-1.2:1.0", 1)
    usb = {}
    for index in (0, 1):
        usb[f"v4l/by-id/usb-Example_Inc._HD_Cam_00_1-video-index{index}"] = f"video{index + 1}"
        usb[f"v4l/by-path/platform-3f980000.usb-usb-0:1.2:1.0-video-index{index}"] = f"video{index + 1}"
    check(links() == {"camd": "video1", **module, **usb}, f"{links()}")
    for number in (1, 2):
        shutil.rmtree(base / f"class/video4linux/video{number}")
        event("remove", number)
    check(links() == {"camd": "video0", **module}, f"{links()}")
    shutil.rmtree(base)
    return "a camera module and a USB camera, plugged in and out"


@test("wifi.conf: what wpa_supplicant is told, and what is refused")
def _(lab):
    script = TOP / "deploy/image/root/usr/lib/box/wifi"
    network = 'network={{\n    ssid={}\n    scan_ssid={}\n    {}\n}}\n'
    wpa = 'key_mgmt=WPA-PSK WPA-PSK-SHA256 SAE\n    ieee80211w=1\n    psk="{}"'
    good = {
        "ssid=net\npassword=12345678\ncountry=DE": network.format("6e6574", 0, wpa.format("12345678")),
        "\ufeffssid = Caf\u00e9 7 \r\npassword = a b=\"c\"#\\d\r\ncountry=FR\r\nhidden=yes\r\n": network.format(
            "436166c3a92037", 1, wpa.format('a b="c"#\\d')),
        "ssid=x\ncountry=US\n": network.format("78", 0, "key_mgmt=NONE"),
        f"ssid=x\ncountry=US\npassword={'0f' * 32}": network.format(
            "78", 0, f"key_mgmt=WPA-PSK WPA-PSK-SHA256\n    psk={'0f' * 32}"),
        # Tabs, quotation marks, comments behind values, keys and countries in other letters.
        "SSID\t=\t\"My \t'Net'\"\t# home\nPassword = '12345678 # '  # not this\ncountry = de # Germany\n": network.format(
            "4d792009274e657427", 0, wpa.format("12345678 # ")),
        "ssid = a#b # c\npassword=\"12\"345678\ncountry=DE": network.format("612362", 0, wpa.format('"12"345678')),
        'ssid=""quoted""\ncountry=DE': network.format("2271756f74656422", 0, "key_mgmt=NONE"),
        # Windows' other encodings, and a Mac's line ends.
        "ssid = Caf\u00e9\r\ncountry = FR\r\n".encode("utf-16"): network.format("436166c3a9", 0, "key_mgmt=NONE"),
        "ssid = Caf\u00e9\r\ncountry = FR\r\n".encode("utf-16-le"): network.format("436166c3a9", 0, "key_mgmt=NONE"),
        "\ufeffssid = Caf\u00e9\ncountry = FR".encode("utf-16-be"): network.format("436166c3a9", 0, "key_mgmt=NONE"),
        "ssid = Caf\u00e9 \u20ac\r\ncountry = FR\r\n".encode("cp1252"): network.format("436166c3a920e282ac", 0, "key_mgmt=NONE"),
        "ssid=x\rcountry=US\r": network.format("78", 0, "key_mgmt=NONE"),
        # Several networks; the first is preferred. One that is wrong does not take the others with it.
        "country=DE\nssid=a\npassword=12345678\nssid=b\nhidden=yes\n":
            "# a\n# b\ncountry=DE\n" + network.format("61", 0, wpa.format("12345678")).replace("}", "    priority=2\n}")
            + network.format("62", 1, "key_mgmt=NONE").replace("}", "    priority=1\n}"),
        "ssid=a\npassword=short\nssid=b\ncountry=DE\n": network.format("62", 0, "key_mgmt=NONE").replace("}", "    priority=1\n}"),
    }  # fmt: skip
    bad = {
        "ssid=net\npassword=short\ncountry=DE": "password has 5 characters",
        "ssid=net\npassword=12345678": "country is missing",
        "ssid=net\ncountry=Germany\n": "country is 'Germany'",
        "ssid=" + "n" * 33 + "\ncountry=DE": "more than 32 bytes",
        "pasword=12345678": "'pasword=12345678' is not understood",
        "password=12345678": "no ssid",
        "ssid=a\ncountry=DE\nhidden=maybe": "hidden is 'maybe'",
        "# home\n\nssid=a\ncountry=UK": "wifi.conf:4: country 'UK' is not known",
        "ssid=a\ncountry=XX": "wifi.conf:2: country 'XX' is not known",
        "ssid=a\ncountry=D1": "country is 'D1'",
        "\ufeff[wifi]\nssid=a\ncountry=DE".encode("utf-16-le"): "wifi.conf:1: '[wifi]' is not understood",
        "ssid=a\npassword=1\npassword=2\ncountry=DE": "wifi.conf:3: a second password",
    }
    countries = lab.folder / "countries"
    countries.write_text("DE FR GB US\n")
    environment = {**os.environ, "COUNTRIES": str(countries)}
    path = lab.folder / "wifi.conf"
    for text, wanted in good.items():
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        done = subprocess.run(["busybox", "sh", script, path], capture_output=True, text=True, env=environment)
        check(done.returncode == 0 and done.stdout.endswith(wanted), f"{text!r} gave {done.stdout}{done.stderr}")
    for text, wanted in bad.items():
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        done = subprocess.run(["busybox", "sh", script, path], capture_output=True, text=True, env=environment)
        # One that is only not understood does not take a network with it.
        used = "not understood" in wanted and "ssid=" in str(text) or "second" in wanted or "[wifi]" in wanted
        check(wanted in done.stderr, f"{text!r} gave {done.stderr}")
        check(used or (done.returncode == 1 and not done.stdout), f"{text!r} gave {done.stdout}")
    path.write_bytes((TOP / "deploy/image/card/wifi.conf").read_bytes())
    done = subprocess.run(["busybox", "sh", script, path], capture_output=True, text=True)
    check((done.returncode, done.stdout, done.stderr) == (1, "", ""), f"the shipped file: {done}")
    return f"{len(good)} and {len(bad)} files"


@test("network.conf: what is understood, and what is refused")
def _(lab):
    script = TOP / "deploy/image/root/usr/lib/box/network"
    path = lab.folder / "network.conf"
    good = {
        "address = 192.168.1.50/24\ngateway=192.168.1.1\ndns = 1.1.1.1, 2606:4700::1111\nntp=time.example\ninterface = cable":
            {"address": "192.168.1.50/24", "gateway": "192.168.1.1", "dns": "1.1.1.1 2606:4700::1111", "ntp": "time.example",
             "interface": "cable"},
        'ADDRESS\t= "10.0.0.9/8" # mine\n'.encode("utf-16").decode("latin-1"): {"address": "10.0.0.9/8", "interface": "any"},
        (TOP / "deploy/image/card/network.conf").read_text(): {},
        "": {},
    }  # fmt: skip
    bad = {
        "address = 192.168.1.50": "network.conf:1: address is '192.168.1.50'; it must be an IPv4 address and",
        "address = 192.168.1.350/24": "address is '192.168.1.350/24'",
        "address = 192.168.1.5/33": "address is '192.168.1.5/33'",
        "address = 192.168.1.255/24": "the first and the last one",
        "\naddress = 10.0.0.5/24\ngateway = 10.0.1.1": "network.conf:3: gateway 10.0.1.1 is not in the network of 10.0.0.5/24",
        "address = 10.0.0.5/24\ngateway = 10.0.0.5": "own address",
        "address = 10.0.0.5/24\ndns = router": "dns is 'router'",
        "address = 10.0.0.5/24\nntp = a;reboot": "ntp is 'a;reboot'",
        "address = 10.0.0.5/24\ninterface = eth0": "interface is 'eth0'",
        "gateway = 10.0.0.1": "gateway is there, but no address",
        "ip = 10.0.0.5": "'ip = 10.0.0.5' is not understood",
    }
    for text, wanted in good.items():
        path.write_bytes(text.encode("latin-1") if text.startswith("\xff") else text.encode())
        done = subprocess.run(["busybox", "sh", script, path], capture_output=True, text=True)
        found = dict(line.split(" ", 1) for line in done.stdout.splitlines())
        check(done.returncode == 0 and found == wanted and not done.stderr, f"{text!r} gave {found} {done.stderr}")
    for text, wanted in bad.items():
        path.write_text(text)
        done = subprocess.run(["busybox", "sh", script, path], capture_output=True, text=True)
        check(done.returncode == 1 and wanted in done.stderr and not done.stdout, f"{text!r} gave {done}")
    return f"{len(good)} and {len(bad)} files"


@test("files of any editor are the same text: UTF-8, UTF-16, Windows-1252, line ends of Windows and of old Macs")
def _(lab):
    script = TOP / "deploy/image/root/usr/lib/box/plain"
    path = lab.folder / "text"
    text = "# \u00e4\u20ac\nname = \"caf\u00e9 \U0001f600\"\n"
    windows = text.replace("\n", "\r\n")
    files = [windows.encode(), b"\xef\xbb\xbf" + windows.encode(), windows.encode("utf-16"), windows.encode("utf-16-le"),
             windows.encode("utf-16-be"), b"\xfe\xff" + windows.encode("utf-16-be"), text.encode()]  # fmt: skip
    for data in files:
        path.write_bytes(data)
        check(run("busybox", "sh", script, path) == text.encode(), f"{data!r}")
    for data, wanted in ((b"a\rb\rc", b"a\nb\nc"), (b"caf\xe9 \x80\r\n", "caf\u00e9 \u20ac\n".encode()), (b"", b"")):
        path.write_bytes(data)
        check(run("busybox", "sh", script, path) == wanted, f"{data!r}")
    return f"{len(files) + 3} files"


@test("what wpa_supplicant says: joined, a wrong password, refused, searching")
def _(lab):
    script = TOP / "deploy/image/root/usr/lib/box/wifi-watch"
    folder = lab.folder / "watch"
    folder.mkdir(exist_ok=True)
    # What the box's scripts share, without the box.
    (folder / "common").write_text("uptime_s() { echo 7; }\n")
    trying = "wlan0: Trying to associate with 02:00:00:00:01:00 (SSID='My 'net'' freq=2437 MHz)\n"
    wrong = 'wlan0: CTRL-EVENT-SSID-TEMP-DISABLED id=0 ssid="My \'net\'" auth_failures=1 duration=10 reason=WRONG_KEY\n'
    joined = "wlan0: CTRL-EVENT-CONNECTED - Connection to 02:00:00:00:01:00 completed [id=0 id_str=]\n"
    gone = "wlan0: CTRL-EVENT-DISCONNECTED bssid=02:00:00:00:01:00 reason=3 locally_generated=1\n"
    for said, wanted in (
        ("", "searching 7"),
        (trying, "searching 7"),
        (trying + joined, "connected My 'net'"),
        (trying + joined + gone, "searching 7"),
        (trying + "wlan0: WPA: 4-Way Handshake failed - pre-shared key may be incorrect\n" + wrong + gone, "password My 'net'"),
        (trying + wrong + gone + trying, "password My 'net'"),
        (trying + wrong.replace("My 'net'", 'Caf\\xc3\\xa9 \\"x\\"'), 'password Caf\u00e9 "x"'),
        (trying + wrong + trying + joined, "connected My 'net'"),
        (trying + "wlan0: CTRL-EVENT-ASSOC-REJECT bssid=02:00:00:00:01:00 status_code=17\n", "refused My 'net'"),
        ("wlan0: SME: Trying to authenticate with 02:00:00:00:01:00 (SSID='x' freq=2437 MHz)\n"
         "wlan0: CTRL-EVENT-AUTH-REJECT 02:00:00:00:01:00 auth_type=3 auth_transaction=2 status_code=15\n", "password x"),
    ):  # fmt: skip
        # It forgets all when wpa_supplicant ends: so it is asked at the last line.
        environment = {**os.environ, "COMMON": str(folder / "common"), "FOLDER": str(folder)}
        process = subprocess.Popen(["busybox", "sh", script, "wlan0"], stdin=subprocess.PIPE, env=environment, text=True)
        process.stdin.write(said)
        process.stdin.flush()
        state = folder / "wifi"
        wait_until(lambda: state.exists() and state.read_text().strip() == wanted, 10,
                   lambda: f"{wanted!r} of {said!r}, not {state.exists() and state.read_text()!r}")  # fmt: skip
        process.stdin.close()
        process.wait()
        check(not state.exists(), "it is left when wpa_supplicant ends")
    return "10 courses"


# --------------------------------------------------------------------------------------------------------- watchdogs


test.group("updates")


@test("camd hangs (SIGSTOP): a hardware watchdog (i6300esb) resets the board, and the picture comes again")
def _(lab):
    made = lab.card(camd_toml=PATTERN)
    box = lab.boot(made, machine="virt64", extra=["-device", "i6300esb"])
    box.first_jpeg()
    check("i6300" in box.run("cat /sys/class/watchdog/watchdog0/identity"), "camd has another watchdog")
    started = time.monotonic()
    box.run("kill -STOP $(pidof camd)")
    box.wait_off(180, "the watchdog resets the board")
    seconds = time.monotonic() - started
    lab.boot(made, machine="virt64", extra=["-device", "i6300esb"]).first_jpeg()
    return f"after {seconds:.0f} s"


@test("the camera hangs: camd stops feeding the watchdog, and the board is reset; a camd that only ends is started again")
def _(lab):
    made = lab.card(camd_toml=VIVID)
    hook = lab.load("7", "vivid", parameters=VIVID_PARAMETERS) + "modprobe softdog soft_margin=15\n"
    hook += f"# file {lab.folder / 'control'} lab/control\n"
    box = lab.boot(made, hook=hook)
    box.first_jpeg()
    links = box.run("ls /dev/v4l/by-path").split()
    check(links == ["platform-vivid.0-video-index0"], f"{links}")
    box.run("kill -KILL $(pidof camd)")
    box.wait_console("camd ended with code 137")
    box.first_jpeg()
    wait_until(lambda: "camd ended with code 137" in made.errors(), 30, made.errors)
    box.run('chmod 755 /lab/control; /lab/control /dev/video0 "Percentage of Dropped Buffers" 100')
    started = time.monotonic()
    with socket.create_connection(("127.0.0.1", box.ports[PORT])) as viewer:
        viewer.sendall(b"GET /stream HTTP/1.1\r\nHost: localhost\r\n\r\n")
        viewer.settimeout(1)

        def off():
            with contextlib.suppress(TimeoutError):
                viewer.recv(1 << 20)
            return not box.on()

        wait_until(off, 300, lambda: f"the watchdog resets the board{box.tail()}")
    seconds = time.monotonic() - started
    lab.boot(made, hook=hook).first_jpeg()
    return f"after {seconds:.0f} s"


# ----------------------------------------------------------------------------------------------------------- updates


def new_image(lab, name, files, key=None):
    """The image as a later version would be: with other files in its root folders."""
    path = lab.folder / name
    shutil.copyfile(lab.image, path)
    os.truncate(path, card.DISK_SIZE)
    folder = lab.folder / "new"
    shutil.rmtree(folder, ignore_errors=True)
    for target, (text, mode) in files.items():
        (folder / target).parent.mkdir(parents=True, exist_ok=True)
        (folder / target).write_text(text)
        (folder / target).chmod(mode)
    disk = card.Disk(path)
    for initramfs in ("initramfs7.img", "initramfs8.img"):
        with tempfile.TemporaryFile() as file:
            data = disk.read(f"a/{initramfs}").rstrip(b"\0")
            file.write(data + b"\0" * (4 - len(data) % 4))
            file.flush()
            pack_folders(file, [folder])
            file.seek(0)
            disk.write(f"a/{initramfs}", card.fit(initramfs, file.read()))
    card.seal(disk, "a")
    disk.close()
    [(version, built)] = re.findall(r"VERSION='(.*)'\nBUILT=(\d+)", files.get("etc/box/built", ("VERSION='x'\nBUILT=0",))[0])
    signature.embed(path, signature.Key(key or signature.default_key()), version, int(built))
    return path


def good_image(lab, version="2.0", built=1735689600, key=None):
    return new_image(lab, "good.img", {"etc/box/built": (f"VERSION='{version}'\nBUILT={built}\n", 0o644)}, key)


# ------------------------------------------------------------------------------------------- updates over the network

NEWER = 1 << 32  # than any build
UPDATER = '[[user]]\nname = "camd"\npassword_file = "/etc/password.txt"\nmay = ["watch", "control", "update"]\n'


def shortened(path):
    """As `build` would leave it: without what is empty at its end."""
    os.truncate(path, max(at + length for at, length, *_ in signature.parts(path)))
    return path


def begin_update(box, image, *options):
    """deploy/image/update, as on a PC."""
    environment = {**os.environ, "CAMD_PASSWORD": box.card.password()}
    url = f"http://127.0.0.1:{box.ports[PORT]}"
    return subprocess.Popen([UPDATE, url, image, *options], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=environment)


def system_of(made, slot):
    """The bytes of one of the two systems on a card, as one checksum."""
    disk, digest = card.Disk(made.path, write=False), hashlib.sha256()
    for name in card.SLOT_FILES:
        digest.update(disk.read(f"{slot}/{name}"))
    disk.close()
    return digest.digest()


def takes_updates(box):
    """Its updater waits for one: it takes its socket away when it is told of one."""
    try:
        return box.try_run("[ -S /run/update/socket ]")[0] == 0
    except GuestError:
        return False


def wait_for_updater(box):
    box.first_jpeg()
    wait_until(lambda: takes_updates(box), BOOT_SECONDS, lambda: f"the updater{box.tail()}")


@test("update over the network: not unsigned, older, broken; a power cut leaves the old system; a good one is tried and kept")
def _(lab):
    made = lab.card(camd_toml=PATTERN + UPDATER)
    good = shortened(good_image(lab, built=NEWER))
    bad = lab.folder / "bad.img"
    started = time.monotonic()
    box = lab.boot(made)
    wait_for_updater(box)
    spent = {"boot": time.monotonic() - started}
    before = [system_of(made, slot) for slot in card.SLOTS]

    def unchanged(both=True):
        check(system_of(made, "a") == before[0], "the running system was written to")
        check(not both or system_of(made, "b") == before[1], "something was written")
        check(made.selection()[:2] == ("a", card.CONFIRMED), f"{made.selection()}")

    def refused(said, both=True):
        """What is sent is `bad`."""
        done = begin_update(box, bad)
        text = done.communicate(timeout=300)[0].decode()
        check(done.returncode == 1 and said in text and "What runs has not changed" in text, f"{done.returncode} {text}, not {said}")
        unchanged(both)
        wait_for_updater(box)

    # What its beginning tells is not read further: so a beginning is enough here.
    beginning = good.read_bytes()[: card.MIB]
    listed = beginning[signature.PLACE : signature.PLACE + signature.SIZE]
    other = lab.folder / "other.key"
    other.unlink(missing_ok=True)
    signature.Key.make(other)
    shutil.copyfile(good, bad)
    started = time.monotonic()
    for said, key, built, change in (
        ("not signed with the key of this box", other, NEWER, None),
        ("it is not signed", None, NEWER, lambda it: it[: it.index(b"\n\n") + 2]),
        ("not signed with the key of this box", None, NEWER, lambda it: it.replace(b"version 2.0", b"version 3.0")),
        ("older than what runs", None, 1, None),
        ("its end is missing", None, NEWER, None),
    ):
        if change:
            bad.write_bytes(beginning[: signature.PLACE] + change(listed).ljust(signature.SIZE, b"\0") + beginning[64 * 1024 :])
        else:
            shutil.copyfile(good, bad)
            signature.embed(bad, signature.Key(key or signature.default_key()), "2.0", built)
            os.truncate(bad, len(beginning))
        refused(said)
    spent["refused"] = time.monotonic() - started
    # Garbage in the middle is known when it comes. What came before it is in the place that is not in use.
    started = time.monotonic()
    shutil.copyfile(good, bad)
    with open(bad, "r+b") as file:
        file.seek(signature.parts(good)[3][0] + 5000)
        file.write(b"garbage")
    refused("is damaged", both=False)
    check(system_of(made, "b") != before[1], "nothing has come in at all")
    done = subprocess.run([UPDATE, "--back", made.path], capture_output=True, text=True)
    check(done.returncode == 1 and re.search("not whole|damaged|empty", done.stderr), f"{done.returncode} {done.stderr}")
    spent["broken"] = time.monotonic() - started
    # A client that goes.
    going = begin_update(box, good)
    wait_until(lambda: progress(box) > 2, 120, lambda: f"it comes in{box.tail()}")
    going.kill()
    going.wait()
    wait_for_updater(box)
    unchanged(both=False)

    # The power fails in the middle.
    chance = random.Random(int(os.environ.get("CAMD_SEED") or time.time()))
    moment = chance.uniform(5, 60)
    started = time.monotonic()
    cut = begin_update(box, good)
    wait_until(lambda: progress(box) >= moment, 300, lambda: f"{moment:.0f} % of it{box.tail()}")
    lab.off()
    cut.kill()
    cut.wait()
    spent[f"cut at {moment:.0f} %"] = time.monotonic() - started
    made.fsck()
    unchanged(both=False)
    box = lab.boot(made)
    wait_for_updater(box)
    check(made.errors() == "No errors.", made.errors())

    # And then all of it comes, with somebody watching.
    started = time.monotonic()
    ports = box.ports
    updating = begin_update(box, good)
    slowest = 0.0
    while box.on():
        began = time.monotonic()
        status, _ = box.try_get("/snapshot")
        if status == 200:
            slowest = max(slowest, time.monotonic() - began)
        time.sleep(0.2)
    spent["update"] = time.monotonic() - started
    check(made.selection()[:2] == ("b", card.TRIAL), f"{made.selection()}{box.tail()}")
    on_card, expected = card.Disk(made.path, write=False), card.Disk(good, write=False)
    card.verify(on_card, "b")
    for name in card.SLOT_FILES:
        if name != "cmdline.txt":
            check(on_card.read(f"b/{name}") == expected.read(f"a/{name}"), f"b/{name} differs")
    started = time.monotonic()
    box = lab.boot(made, ports=ports)
    box.wait_console("is well, and stays")
    said = updating.communicate(timeout=300)[0].decode()
    check(updating.returncode == 0 and "tried; the box runs 2.0 now" in said, said)
    check(made.selection()[:2] == ("b", card.CONFIRMED), f"{made.selection()}")
    spent["trial"] = time.monotonic() - started
    lab.off()
    made.fsck()
    times = ", ".join(f"{what} {seconds:.0f} s" for what, seconds in spent.items())
    return f"7 refused; {times}; the slowest snapshot beside the good one took {slowest:.1f} s"


def progress(box):
    """Per cent of an update, as the box knows it."""
    try:
        said = box.run("cat /run/update/progress 2>/dev/null || true", timeout=30)
    except GuestError:
        return 100
    found = re.search(r"(\d+) %", said)
    return int(found[1]) if found else 101 if "read back" in said else 0


@test("update: a good one is tried, confirmed and stays, and the user's files with it")
def _(lab):
    made = lab.card(camd_toml=PATTERN, hostname="garden\n")
    good = good_image(lab)
    said = run(UPDATE, made.path, good).decode()
    check(made.selection()[:2] == ("b", card.TRIAL), f"{made.selection()}")
    # It is as good without a camera, and also where an editor has written select.txt anew, elsewhere on the card.
    made.put("camd.toml", ABSENT)
    places = card.Disk(made.path, write=False).fat
    before = places.extent(card.SELECT)
    text = made.read(card.SELECT)
    made.put("taken", "x")
    run("mdel", "-i", f"{made.path}{PARTITION}", f"::{card.SELECT}")
    made.put("taken-too", "x")
    made.put(card.SELECT, text)
    check(card.Disk(made.path, write=False).fat.extent(card.SELECT) != before, "it has not moved")
    box = lab.boot(made)
    box.wait_console("version 2.0")
    box.wait_console("is on trial")
    check(made.selection()[:2] == ("a", card.TRYING), f"during the trial: {made.selection()}")
    box.wait_console("is well, and stays")
    check(made.selection()[:2] == ("b", card.CONFIRMED), f"{made.selection()}")
    check("Note: select.txt was edited by hand" in made.errors(), made.errors())
    lab.off()
    made.fsck()
    # Where it lies now the box has written into it.
    check("is as it should be" in run(UPDATE, "--repair", made.path).decode(), "--repair")
    made.put("camd.toml", PATTERN)
    box = lab.boot(made)
    box.first_jpeg()
    check("version 2.0" in box.console() and "trial" not in box.console(), box.tail())
    check(box.run("hostname").strip() == "garden", "hostname is lost")
    check(made.errors() == "No errors.", made.errors())
    lab.off()
    check("a/ starts next, on trial" in run(UPDATE, "--back", made.path).decode(), "--back")
    # A card that is write-protected by now: there is no trial that could not end.
    box = lab.boot(made, write_protected=True)
    box.first_jpeg()
    check("version 2.0" not in box.console() and "is not on trial" in box.console(), box.tail())
    check("The card is write-protected" in box.console(), box.tail())
    code, _ = box.try_run("[ -e /run/trial ] || ps | grep -q '[b]ox/confirm'")
    check(code != 0, "it is on trial all the same")
    wait_until(lambda: any("write-protected" in problem for problem in
                           (json.loads(box.get("/state")[1])["box"] or {"problems": []})["problems"]), 120,
               "/state says so")  # fmt: skip
    check(made.selection()[:2] == ("a", card.TRIAL), f"{made.selection()}")
    return said.strip()


@test("update: one whose camd does not stay up falls back within 2 minutes, and says so")
def _(lab):
    made = lab.card(camd_toml=PATTERN)
    bad = new_image(lab, "bad.img", {"usr/bin/camd": ("#!/bin/sh\nexit 1\n", 0o755)})
    run(UPDATE, made.path, bad)
    box = lab.boot(made)
    box.wait_console("is on trial")
    box.wait_console("going back to the old one", timeout=400)
    box.wait_off(60, "it restarts")
    seconds = float(re.search(r"\[ *([0-9.]+)\][^\n]*going back", box.console())[1])
    check(seconds <= 130, f"after {seconds} s")
    box = lab.boot(made)
    check(box.slot == "a", "the firmware would start the new one again")
    box.wait_console("the update has failed")
    box.first_jpeg()
    check("The update has failed" in made.errors(), made.errors())
    check(made.selection()[:2] == ("a", card.FAILED), f"{made.selection()}")
    made.fsck()
    good = good_image(lab)
    run(UPDATE, made.path, good)
    lab.boot(made).wait_console("is well, and stays")
    check("The update has failed" in made.errors() or made.errors() == "No errors.", made.errors())
    lab.off()
    lab.boot(made).first_jpeg()
    check(made.errors() == "No errors.", made.errors())
    return f"after {seconds:.0f} s of the kernel's"


@test("update: into a mounted folder; and what is wrong is said")
def _(lab):
    made = lab.card()
    folder = lab.folder / "mounted"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    run("mcopy", "-s", "-i", f"{made.path}{PARTITION}", "::", folder)
    good = good_image(lab)
    before = {path: path.stat().st_ino for path in folder.rglob("*")}
    run(UPDATE, folder, good)
    check(before == {path: path.stat().st_ino for path in folder.rglob("*")}, "files were made anew")
    check(card.Selection.parse((folder / card.SELECT).read_bytes())[:2] == ("b", card.TRIAL), "select.txt")
    expected = card.Disk(good, write=False)
    for name in card.SLOT_FILES:
        if name != "cmdline.txt":
            check((folder / "b" / name).read_bytes() == expected.read(f"a/{name}"), f"b/{name} differs")
    check("camd.slot=b" in (folder / "b/cmdline.txt").read_text(), "b/cmdline.txt")
    for arguments, said in (
        ([lab.folder, good], "is this the card of a camera box?"),
        ([made.path, lab.folder / "poweron"], "no FAT file system"),
        ([lab.folder / "nothing", good], "No such file"),
        (["--back", lab.card().path], "there is no system in b/ yet"),
    ):
        done = subprocess.run([UPDATE, *arguments], capture_output=True, text=True)
        check(done.returncode == 1 and said in done.stderr, f"{arguments}: {done.returncode} {done.stderr}")
    shutil.rmtree(folder)
    return "same files, new contents"


# What Windows does not have, and has besides; and what a card is called there.
WINDOWS = """import os, runpy, sys
for name in ("sync", "posix_fadvise", "POSIX_FADV_DONTNEED"):
    if hasattr(os, name): delattr(os, name)
sys.modules["fcntl"] = None
os.O_BINARY = 1 << 30
opened, isdir = os.open, os.path.isdir
def open_(path, flags, *more, **named):
    assert flags & os.O_BINARY, f"{path} is opened as text"
    return opened(path, flags & ~os.O_BINARY, *more, **named)
os.open = open_
sys.argv = sys.argv[1:]
sys.path.insert(0, os.path.dirname(sys.argv[0]))
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@test("update on Windows: without what it lacks, into a drive and into an image")
def _(lab):
    made, good = lab.card(), good_image(lab)
    script = lab.folder / "windows.py"
    script.write_text(WINDOWS)
    drive = lab.folder / "drive"
    shutil.rmtree(drive, ignore_errors=True)
    drive.mkdir()
    run("mcopy", "-s", "-i", f"{made.path}{PARTITION}", "::", drive)
    for target in (drive, made.path):
        run(sys.executable, script, UPDATE, target, good)
        said = run(sys.executable, script, UPDATE, "--show", target).decode()
        check("b/ starts (trial)" in said, said)
        run(sys.executable, script, UPDATE, "--save", lab.folder / "saved", target)
    # The drive itself, not the folder that happens to be the current one on it.
    made_folder = []
    card.Folder, kept = lambda path: made_folder.append(path), card.Folder
    isdir, os.path.isdir = os.path.isdir, lambda path: True
    try:
        card.open_card("E:")
    finally:
        card.Folder, os.path.isdir = kept, isdir
    check(made_folder == ["E:\\"], f"{made_folder}")
    shutil.rmtree(drive)
    return "both"


@test("update: what is not whole changes nothing; --back goes only to a whole system; --repair; files saved and brought back")
def _(lab):
    made, good = lab.card(camd_toml=PATTERN, wifi_conf="ssid = mine\n"), good_image(lab)

    def refused(said, *arguments):
        before = hashlib.sha256(made.path.read_bytes()).digest()
        done = subprocess.run([UPDATE, *arguments], capture_output=True, text=True)
        check(done.returncode == 1 and said in done.stderr, f"{arguments}: {done.returncode} {done.stderr}")
        check(hashlib.sha256(made.path.read_bytes()).digest() == before, f"{arguments} has written something")

    chance = random.Random(4)
    places = card.Disk(good, write=False).fat
    bad = lab.folder / "damaged.img"
    for name in ("initramfs7.img", "initramfs8.img", "kernel8.img", "cmdline.txt", "bcm2711-rpi-400.dtb", card.SUMS):
        shutil.copyfile(good, bad)
        offset, size = places.extent(f"a/{name}")
        with open(bad, "r+b") as file:
            file.seek(offset + (chance.randrange(size - 4096) if size > 4096 else 0))
            file.write(chance.randbytes(min(size, 4096)))
        refused("Nothing was written", made.path, bad)
    shutil.copyfile(lab.image, bad)
    os.truncate(bad, lab.image.stat().st_size - 500_000)
    refused("Nothing was written", made.path, bad)
    refused("there is no system in b/ yet", "--back", made.path)
    run(UPDATE, made.path, good)
    # Half of it is gone again.
    disk = card.Disk(made.path)
    offset, size = disk.fat.extent("a/initramfs7.img")
    disk.write(card.SELECT, disk.selection()._replace(slot="b", state=card.CONFIRMED).text().encode())
    disk.close()
    with open(made.path, "r+b") as file:
        file.seek(offset + 100_000)
        file.write(b"x" * 4096)
    refused("a/initramfs7.img", "--back", made.path)
    # By hand, as an editor writes it: shorter, and elsewhere.
    made.put(card.SELECT, "os_prefix=b/\r\n")
    refused("--repair CARD first", made.path, good)
    refused("--repair CARD first", "--back", made.path)
    check("b/ starts next" in run(UPDATE, "--repair", made.path).decode(), "--repair")
    check(made.selection()[:2] == ("b", card.CONFIRMED) and len(made.read(card.SELECT)) == card.SECTOR, f"{made.selection()}")
    run(UPDATE, made.path, good)
    check(made.selection()[:2] == ("a", card.TRIAL), f"{made.selection()}")
    # Saved, lost, brought back; and as the image had them.
    saved = lab.folder / "saved"
    shutil.rmtree(saved, ignore_errors=True)
    run(UPDATE, "--save", saved, made.path)
    check((saved / "camd.toml").read_text() == PATTERN and (saved / "camd.toml").stat().st_mode & 0o77 == 0, "--save")
    made.put("camd-2.toml", PATTERN)
    run(UPDATE, "--reset", made.path)
    check(made.read("wifi.conf") == (TOP / "deploy/image/card/wifi.conf").read_text(), "--reset")
    check("camd-2.toml" not in run("mdir", "-b", "-i", f"{made.path}{PARTITION}", "::").decode(), "--reset leaves camd-2.toml")
    (saved / "camd.toml").write_text("# " + "x" * 50_000 + "\n" + PATTERN)
    run(UPDATE, "--restore", saved, made.path)
    check(made.read("camd.toml") == (saved / "camd.toml").read_text() and made.read("wifi.conf") == "ssid = mine\n", "--restore")
    made.fsck()
    check(made.selection()[:2] == ("a", card.TRIAL), f"{made.selection()}")
    return "6 damages, 500 kB missing"


@test(f"power cut at {POWER_CUTS} random moments of boot, run and update: it always boots again, on a sound file system")
def _(lab):
    seed = int(os.environ.get("CAMD_SEED") or time.time())
    chance = random.Random(seed)
    made = lab.card(camd_toml=PATTERN)
    good = good_image(lab)
    started = time.monotonic()
    lab.boot(made).first_jpeg()
    boot_time = time.monotonic() - started
    started = time.monotonic()
    run(UPDATE, made.path, good)
    update_time = time.monotonic() - started
    cuts = {"boot": 0, "run": 0, "update": 0, "trial": 0}
    lab.off()
    try:
        for number in range(POWER_CUTS):
            # Every second one is a cut of a box that has come up, so each other cut is followed by a boot to the end.
            # The others are of each kind in turn.
            if number % 6 == 0:
                others = chance.sample(["boot", "update", "trial"], 3)
            kind = "run" if number % 2 else others.pop()
            cuts[kind] += 1
            if kind in ("update", "trial"):
                updater = subprocess.Popen([UPDATE, made.path, good], stdout=subprocess.DEVNULL)
                if kind == "update":
                    time.sleep(chance.uniform(0, update_time * 1.2))
                    updater.send_signal(signal.SIGKILL)
                check(updater.wait() in (0, -signal.SIGKILL), "the update failed")
            if kind != "update":
                # In pairs, so that each kernel has cuts of each kind.
                box = lab.boot(made, machine=POWER_CUT_MACHINES[number // 2 % len(POWER_CUT_MACHINES)])
                if kind == "run":
                    box.first_jpeg()
                    time.sleep(chance.uniform(0, boot_time))
                else:
                    time.sleep(chance.uniform(0, boot_time * (2 if kind == "trial" else 1)))
                lab.off()
            made.fsck()
        lab.boot(made).first_jpeg()
    except Exception as error:
        raise Failure(f"CAMD_SEED={seed}, cut {number + 1} ({kind}): {error}") from error
    return f"CAMD_SEED={seed}; " + ", ".join(f"{count} during {kind}" for kind, count in cuts.items())


# Beside the others: it takes long, and nothing in it is in a hurry.
test.group("interruptions", nice=5)
INTERRUPTIONS = 20
# What goes away: the client, the box's updater, the power.
ENDS = ("client", "updater", "power")
KILL_UPDATER = "for it in /proc/[0-9]*; do grep -q 'box-updat[e]' $it/cmdline 2>/dev/null && kill -9 ${it#/proc/}; done; true"


@test.full(f"update over the network: interrupted at {INTERRUPTIONS} random moments, power cuts included: always boots")
def _(lab):
    seed = int(os.environ.get("CAMD_SEED") or time.time())
    chance = random.Random(seed)
    made = lab.card(camd_toml=PATTERN + UPDATER)
    good = shortened(good_image(lab, built=NEWER))
    # The second one is cut while it is read back; the others at any moment up to the new system's start.
    moments = [chance.uniform(0, 1.1) for _ in range(INTERRUPTIONS)]
    moments[1] = 1.0
    counts, tried, box = dict.fromkeys(ENDS, 0), 0, None
    try:
        for number, moment in enumerate(moments):
            end = "power" if number < 2 else chance.choice((*ENDS, "power"))
            counts[end] += 1
            if not box:
                box = lab.boot(made)
            wait_for_updater(box)
            running, ports = box.slot, box.ports
            updating = begin_update(box, good, "--older")
            if moment < 1:
                wait_until(lambda: progress(box) >= 100 * moment or updating.poll() is not None, 300,
                           lambda: f"{moment:.2f} of it{box.tail()}")  # fmt: skip
            else:
                wait_until(lambda: progress(box) > 100 or not box.on(), 300, lambda: f"its end{box.tail()}")
                if moment > 1:
                    # While it is still read back, or is selected, or the box starts.
                    time.sleep(chance.uniform(0, 8))
            if end == "power":
                lab.off()
            elif end == "updater":
                with contextlib.suppress(GuestError):
                    box.run(KILL_UPDATER, timeout=30)
            updating.kill()
            updating.wait()
            if end != "power":
                wait_until(lambda: not box.on() or takes_updates(box), BOOT_SECONDS, lambda: f"another updater{box.tail()}")
            made.fsck()
            if box.on():
                check(made.selection()[:2] == (running, card.CONFIRMED), f"{made.selection()}, and {running}/ runs")
                continue
            lab.off()
            box = None
            selected = made.selection()
            if selected.state == card.TRIAL:
                tried += 1
                card.verify(card.Disk(made.path, write=False), selected.slot)
                box = lab.boot(made, ports=ports)
                box.wait_console("is well, and stays")
                check(made.selection()[:2] == (selected.slot, card.CONFIRMED), f"{made.selection()}")
            else:
                check(selected.slot == running, f"{selected}, and {running}/ ran")
        lab.off()
        lab.boot(made).first_jpeg()
    except Exception as error:
        raise Failure(f"CAMD_SEED={seed}, interruption {number + 1} ({end}, {moment:.2f}): {error}") from error
    ends = ", ".join(f"{count} times the {end}" for end, count in counts.items())
    return f"CAMD_SEED={seed}; {ends}; {tried} were tried"


# -------------------------------------------------------------------------------------------------------------- main


class Lan:
    """A second network of the box, whose other end is here: one datagram is one Ethernet frame."""

    MAC = bytes.fromhex("525400aabbcc")
    ADDRESS = socket.inet_pton(socket.AF_INET6, "fe80::5054:ff:feaa:bbcc")
    GROUP = socket.inet_pton(socket.AF_INET6, "ff02::fb")

    def __init__(self):
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", 0))
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as free:
            free.bind(("127.0.0.1", 0))
            self._box = free.getsockname()
        here = self._socket.getsockname()
        self.device = ["-netdev", f"socket,id=lan,udp=127.0.0.1:{here[1]},localaddr=127.0.0.1:{self._box[1]}",
                       "-device", "virtio-net-device,netdev=lan,mac=52:54:00:00:00:77"]  # fmt: skip

    def _query(self, name):
        labels = b"".join(bytes([len(part)]) + part.encode() for part in name.split(".")) + b"\0"
        question = struct.pack(">HHHHHH", 0, 0, 1, 0, 0, 0) + labels + struct.pack(">HH", 28, 1)
        return self._frame(question), labels

    def _frame(self, question):
        """An mDNS message to all."""
        udp = struct.pack(">HHHH", 5353, 5353, 8 + len(question), 0) + question
        pseudo = self.ADDRESS + self.GROUP + struct.pack(">II", len(udp), 17) + udp + b"\0" * (len(udp) % 2)
        total = sum(struct.unpack(f">{len(pseudo) // 2}H", pseudo))
        while total >> 16:
            total = (total & 0xFFFF) + (total >> 16)
        udp = udp[:6] + struct.pack(">H", ~total & 0xFFFF) + udp[8:]
        ip = struct.pack(">IHBB", 6 << 28, len(udp), 17, 255) + self.ADDRESS + self.GROUP
        return bytes.fromhex("3333000000fb") + self.MAC + b"\x86\xdd" + ip + udp

    def claim_until(self, name, done, timeout):
        """Says by mDNS that this name is taken, as the device does that has it, until `done()`."""
        labels = b"".join(bytes([len(part)]) + part.encode() for part in name.split(".")) + b"\0"
        record = labels + struct.pack(">HHIH", 28, 0x8001, 120, 16) + self.ADDRESS
        frame = self._frame(struct.pack(">HHHHHH", 0, 0x8400, 0, 1, 0, 0) + record)

        first = labels[: labels[0] + 1]  # The rest of a name may be written as a pointer.
        announced = 0.0
        self._socket.setblocking(False)

        def claim():
            # Announced not so often that it is still under way when the box has another name. Whoever asks for the
            # name is answered, as RFC 6762, 8.1 wants it: a box that only heard the announcement asks before it yields.
            nonlocal announced
            with contextlib.suppress(BlockingIOError):
                while True:
                    message = self._message(self._socket.recv(65536))
                    if message and not message[2] & 0x80 and first in message:
                        self._socket.sendto(frame, self._box)
            if time.monotonic() - announced > 3:
                self._socket.sendto(frame, self._box)
                announced = time.monotonic()
            return done()

        wait_until(claim, timeout, f"the box has heard that {name} is taken")

    @staticmethod
    def _message(frame):
        """The mDNS message in an Ethernet frame with IPv6, or None."""
        if frame[12:14] == b"\x86\xdd" and frame[20] == 17 and frame[54:56] == struct.pack(">H", 5353):
            return frame[62:]
        return None

    def resolve(self, name, timeout):
        """Asks by mDNS, as any computer of the network would; returns the address that the box answers with."""
        frame, labels = self._query(name)
        deadline = time.monotonic() + timeout
        self._socket.settimeout(0.5)
        asked = 0.0
        while time.monotonic() < deadline:
            if time.monotonic() - asked > 2:
                self._socket.sendto(frame, self._box)
                asked = time.monotonic()
            with contextlib.suppress(TimeoutError):
                message = self._message(self._socket.recv(65536))
                if not message:
                    continue
                # An answer, with the name and a record of type AAAA (with the bit for "all there are"), 16 bytes long.
                at = message.find(labels + struct.pack(">HH", 28, 0x8001))
                if message[2] & 0x80 and at >= 0:
                    record = at + len(labels) + 4
                    if message[record + 4 : record + 6] == b"\0\x10":
                        return socket.inet_ntop(socket.AF_INET6, message[record + 6 : record + 22])
        raise Failure(f"nobody answers to {name} within {timeout} s")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--folder", type=Path, required=True, help="for what the tests make")
    parser.add_argument("--image", type=Path, required=True)
    parser.add_argument("--lock", type=Path, required=True, help="the packages that the image was built from")
    parser.add_argument("--hostapd", type=Path, required=True)
    parser.add_argument("--camd", type=Path, required=True)
    parser.add_argument("--list", action="store_true")
    parser.add_argument("--over", type=Path, action="append", default=[], help="a folder laid over the image's root")
    parser.add_argument("names", nargs="*", help="run tests whose names contain one of these; with !WORD none with that")
    options = parser.parse_args()
    if options.list:
        return test.list(options.names)
    return test.run("appliance", options.names, lambda group: Lab(options, group), (GuestError, card.Error))


if __name__ == "__main__":
    sys.exit(main())
