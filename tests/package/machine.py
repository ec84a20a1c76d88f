"""A Debian amd64 machine with systemd in QEMU: camd is installed on it over ssh, and tests/package/guest runs there."""

import argparse
import base64
import re
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.append(str(HERE.parent / "lab"))
from guest import free_ports  # noqa: E402 (the lab's)

BOOT_SECONDS = 240
# What is loaded before there is a root, and what the tests load.
EARLY = ["virtio_pci", "virtio_blk", "ext4"]
LATER = ["virtio_net", "vivid", "videodev", "autofs4"]
INIT = """#!/bin/busybox sh
/bin/busybox mount -t devtmpfs dev /dev
while read -r module; do /bin/busybox insmod /modules/$module; done </modules/order
/bin/busybox mount -t ext4 /dev/vda /root
exec /bin/busybox switch_root /root /sbin/init
"""
NETWORK = "[Match]\nType=ether\n[Network]\nDHCP=ipv4\n"


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--package", required=True)
    parser.add_argument("--newer", required=True)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="camd-package-") as folder:
        folder = Path(folder)
        run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / "key")
        kernel = unpack_kernel(options.work)
        build_machine(options.work, folder, kernel)
        ssh_port, http_port = free_ports(2)
        config = folder / "ssh_config"
        config.write_text(
            f"Host box\nHostName 127.0.0.1\nPort {ssh_port}\nUser root\nIdentityFile {folder}/key\nIdentitiesOnly yes\n"
            f"UserKnownHostsFile {folder}/known_hosts\nStrictHostKeyChecking accept-new\nConnectTimeout 10\nLogLevel ERROR\n"
        )
        qemu = boot(folder, kernel, ssh_port, http_port)
        try:
            test(folder, options, qemu, http_port)
        except Exception as error:
            print(f"FAILED {error}")
            print("--- console", *(folder / "console").read_text(errors="replace").splitlines()[-30:], sep="\n")
        finally:
            qemu.kill()
            qemu.wait()


def run(*command, **options):
    return subprocess.run([str(c) for c in command], check=True, **options)


def unpack_kernel(work):
    """Debian's newest kernel, its modules and a static busybox, kept between runs: (folder, version)."""
    depends = run("apt-cache", "depends", "linux-image-amd64", stdout=subprocess.PIPE, text=True).stdout
    image = next(line.split()[1] for line in depends.splitlines() if "Depends: linux-image-" in line)
    folder = work / "kernel"
    key = work / "kernel.key"
    if not key.exists() or key.read_text() != image:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        run("apt-get", "-qq", "-o", "APT::Sandbox::User=root", "download", image, "busybox-static", cwd=folder)
        for package in folder.glob("*.deb"):
            run("dpkg", "-x", package, folder)
            package.unlink()
        run("depmod", "-b", folder, image.removeprefix("linux-image-"))
        key.write_text(image)
    return folder, image.removeprefix("linux-image-")


def modules(kernel, names):
    """The files of these modules and of all that they need, in the order in which they are loaded."""
    folder, version = kernel
    files = []
    for name in names:
        shown = run("modprobe", "-d", folder, "-S", version, "--show-depends", name, stdout=subprocess.PIPE, text=True)
        files += [line.split()[1] for line in shown.stdout.splitlines() if line.startswith("insmod ")]
    return [Path(f) for f in dict.fromkeys(files)]


def build_machine(work, folder, kernel):
    root = folder / "root"
    root.mkdir()
    run("tar", "-xf", work / "amd64.tar", "-C", root)
    tree, version = kernel
    for module in modules(kernel, EARLY + LATER):
        place = root / "usr/lib/modules" / module.relative_to(next(p for p in module.parents if p.name == "modules"))
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(module, place)
    for name in ("modules.builtin", "modules.builtin.modinfo", "modules.order"):
        shutil.copy(tree / "lib/modules" / version / name, root / "usr/lib/modules" / version / name)
    run("depmod", "-b", root, version)
    (root / "etc/hostname").write_text("box\n")
    (root / "etc/systemd/network/ether.network").write_text(NETWORK)
    run("systemctl", "--root", root, "enable", "systemd-networkd", stderr=subprocess.DEVNULL)
    run("systemctl", "--root", root, "mask", "apt-daily.timer", "apt-daily-upgrade.timer", "dpkg-db-backup.timer",
        "e2scrub_all.timer", "fstrim.timer", stderr=subprocess.DEVNULL)  # fmt: skip
    (root / "root/.ssh").mkdir(mode=0o700, exist_ok=True)
    shutil.copy(folder / "key.pub", root / "root/.ssh/authorized_keys")
    run("gcc", "-std=gnu11", "-O2", "-static", "-Wall", "-Wextra", "-Werror", "-o", root / "usr/bin/shm", HERE / "shm.c")
    run("mke2fs", "-q", "-t", "ext4", "-O", "^has_journal", "-E", "root_owner=0:0", "-d", root, folder / "disk", "600M")
    shutil.rmtree(root)

    early = folder / "early"
    for name in ("bin", "dev", "root", "modules"):
        (early / name).mkdir(parents=True)
    shutil.copy(tree / "bin/busybox", early / "bin/busybox")
    (early / "init").write_text(INIT)
    (early / "init").chmod(0o755)
    order = modules(kernel, EARLY)
    for module in order:
        shutil.copy(module, early / "modules")
    (early / "modules/order").write_text("".join(f"{m.name}\n" for m in order))
    names = "\n".join(str(p.relative_to(early)) for p in sorted(early.rglob("*")))
    with open(folder / "initramfs", "wb") as out:
        run("cpio", "--quiet", "--create", "--format=newc", "--owner=0:0", cwd=early, input=names.encode(), stdout=out)


def boot(folder, kernel, ssh_port, http_port):
    tree, version = kernel
    return subprocess.Popen([
        "qemu-system-x86_64", "-M", "q35", "-accel", "tcg,thread=multi", "-cpu", "max", "-m", "768", "-smp", "2",
        "-nodefaults", "-no-reboot", "-display", "none", "-serial", f"file:{folder}/console",
        "-kernel", tree / f"boot/vmlinuz-{version}", "-initrd", folder / "initramfs",
        "-append", "console=ttyS0 quiet panic=-1 systemd.show_status=false mitigations=off",
        "-drive", f"file={folder}/disk,format=raw,if=virtio,cache=unsafe",
        "-netdev", f"user,id=n,restrict=on,hostfwd=tcp:127.0.0.1:{ssh_port}-:22,hostfwd=tcp:127.0.0.1:{http_port}-:8080",
        "-device", "virtio-net-pci,netdev=n",
    ], stdin=subprocess.DEVNULL)  # fmt: skip


def test(folder, options, qemu, http_port):
    ssh = ["ssh", "-F", str(folder / "ssh_config"), "box"]
    begin = time.monotonic()
    while subprocess.run([*ssh, "true"], stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode != 0:
        if qemu.poll() is not None or time.monotonic() - begin > BOOT_SECONDS:
            raise RuntimeError(f"the machine does not answer within {BOOT_SECONDS} s")
        time.sleep(1)
    print(f"up after {time.monotonic() - begin:.0f} s", flush=True)

    install = [HERE.parents[1] / "deploy/install.sh", "-F", folder / "ssh_config", "--package", options.package, "box"]
    installed = subprocess.run(install, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    # The login that the installation made is told with the address, at the end.
    told = re.search(r"camd runs: http://\S+:8080/.*\ninstall\.sh: its login is user camd, password ([a-z2-7]{16})\s*$",
                     installed.stdout)  # fmt: skip
    good = installed.returncode == 0 and told
    print(f"{'ok' if good else 'FAILED'} deploy/install.sh\n{installed.stdout}", flush=True)
    password = told[1] if told else "none"
    code = base64.b64encode(f"camd:{password}".encode()).decode()
    asked = urllib.request.Request(f"http://127.0.0.1:{http_port}/", headers={"Authorization": f"Basic {code}"})
    page = urllib.request.urlopen(asked, timeout=60).read()
    print(f"{'ok' if b'<html' in page.lower() else 'FAILED'} its page, from another machine", flush=True)

    run("scp", "-q", "-F", folder / "ssh_config", HERE / "guest", options.newer, "box:/root/")
    subprocess.run([*ssh, "/root/guest", f"/root/{Path(options.newer).name}", password], stdin=subprocess.DEVNULL, timeout=600)
    print(f"{time.monotonic() - begin:.0f} s in all", flush=True)


if __name__ == "__main__":
    sys.exit(main())
