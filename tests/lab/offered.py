"""offered.py LOCK FOLDER: gets the packages of LOCK, and hostapd, which only the tests need, into FOLDER. Ends with 1 if
Debian does not have those of LOCK any more."""

import shutil
import sys
from pathlib import Path

TOP = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(TOP / "deploy/image"))
import debian  # noqa: E402


def main():
    lock, folder = sys.argv[1], Path(sys.argv[2])
    apt_folder = TOP / "target/image/apt"

    def note(text):
        print(f"appliance: {text}", flush=True)

    if not (folder / "hostapd").exists():
        apt = debian.Apt(apt_folder)
        apt.update()
        [hostapd] = apt.offered([("armhf", "hostapd")])
        apt.fetch([hostapd])
        deb = apt_folder / "debs" / hostapd.kept
        if debian.checksum(deb) != hostapd.sha256:
            sys.exit("hostapd: wrong checksum")
        tree = debian.unpack(deb, folder / "hostapd.tree")
        [program] = [path for path in tree.rglob("hostapd") if path.is_file() and path.parent.name == "sbin"]
        shutil.copy(program, folder / "hostapd")
    try:
        debian.fetch(debian.read_lock(lock), apt_folder, note)
    except debian.Error as error:
        print(error, flush=True)
        sys.exit(1)


if __name__ == "__main__":
    main()
