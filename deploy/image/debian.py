"""Packages of Debian's by name, version and checksum, through an apt of our own: nothing of the host's is touched."""

import hashlib
import os
import subprocess
from pathlib import Path
from typing import NamedTuple

HERE = Path(__file__).resolve().parent
LOCK = HERE / "packages.lock"


class Error(Exception):
    """What went wrong, and the way out."""


class Package(NamedTuple):
    name: str
    architecture: str
    version: str
    sha256: str

    @property
    def file(self):
        """What apt calls it."""
        return f"{self.name}_{self.version.replace(':', '%3a')}_{self.architecture}.deb"

    @property
    def kept(self):
        """What it is called once it is here: two of one version are two files."""
        return f"{self.sha256[:16]}-{self.file}"


class Wanted(NamedTuple):
    suite: str
    components: list
    packages: list  # of (architecture, name)


def wanted():
    """Reads deploy/image/packages."""
    suite, components, packages = None, [], []
    for line in (HERE / "packages").read_text().splitlines():
        fields = line.partition("#")[0].split()
        if fields[:1] == ["suite"]:
            suite, *components = fields[1:]
        elif fields:
            packages.append((fields[0], fields[1]))
    return Wanted(suite, components, packages)


def read_lock(path):
    packages = []
    for line in Path(path).read_text().splitlines():
        if line and not line.startswith("#"):
            packages.append(Package(*line.split()))
    return packages


class Apt:
    """An index of its own under `folder`, with the architectures of the image."""

    ARCHITECTURES = "armhf,arm64"

    def __init__(self, folder):
        self._folder = Path(folder).resolve()
        want = wanted()
        for part in ("lists/partial", "cache/archives/partial", "debs"):
            (self._folder / part).mkdir(parents=True, exist_ok=True)
        sources = self._folder / "sources.list"
        sources.write_text(
            f"deb [arch={self.ARCHITECTURES}] {self._mirror()} {want.suite} {' '.join(want.components)}\n"
        )
        settings = {
            "Dir::Etc::SourceList": sources,
            "Dir::Etc::SourceParts": "/dev/null",
            "Dir::State::Lists": self._folder / "lists",
            "Dir::State::status": "/dev/null",
            "Dir::Cache": self._folder / "cache",
            "APT::Architectures": self.ARCHITECTURES,
            "APT::Sandbox::User": "",
            "Acquire::Languages": "none",
            "Acquire::IndexTargets::deb::DEP-11::DefaultEnabled": "false",
            "Acquire::IndexTargets::deb::CNF::DefaultEnabled": "false",
            "Acquire::Retries": "3",
        }
        self._options = [option for key, value in settings.items() for option in ("-o", f"{key}={value}")]

    @staticmethod
    def _mirror():
        """The mirror that this host's own apt uses, so that a proxy or a mirror nearby is used here too."""
        listed = subprocess.run(
            ["apt-get", "indextargets", "--format", "$(REPO_URI)", "Created-By: Packages", "Label: Debian"],
            capture_output=True, text=True,
        )  # fmt: skip
        return next(iter(sorted(listed.stdout.split())), "http://deb.debian.org/debian")

    def _run(self, *command, may_fail=False, **options):
        try:
            return subprocess.run(
                [command[0], *self._options, *command[1:]],
                check=not may_fail, text=True, stdout=subprocess.PIPE, **options,
            ).stdout  # fmt: skip
        except FileNotFoundError:
            raise Error(f"{command[0]} is missing: the image is built on Debian or Ubuntu") from None
        except subprocess.CalledProcessError as error:
            raise Error(f"{' '.join(map(str, command))} failed with exit code {error.returncode}") from None

    def update(self):
        self._run("apt-get", "-qq", "update")

    def offered(self, packages):
        """What the mirror has of these (architecture, name), in their order, None for none. A name without contents of its own, such
        as the newest kernel's, becomes the package that it stands for."""
        names = [_native(*package) for package in packages]
        # A name that is gone, as old kernels' are, is for the caller to notice; apt's exit code does not say which.
        text = self._run("apt-cache", "show", "--no-all-versions", *names, may_fail=True)
        stanzas = {}
        for stanza in filter(None, text.strip().split("\n\n")):
            fields = dict(line.split(": ", 1) for line in stanza.splitlines() if ": " in line)
            stanzas[fields["Architecture"], fields["Package"]] = fields
        found = []
        for package in packages:
            fields = stanzas.get(package)
            if not fields:
                found.append(None)
                continue
            stands_for = fields.get("Depends", "").split(" ")[0]
            if package[1].startswith("linux-image-") and stands_for.startswith("linux-image-"):
                found += self.offered([(package[0], stands_for)])
            else:
                found.append(Package(package[1], package[0], fields["Version"], fields["SHA256"]))
        return found

    def fetch(self, packages):
        """Gets packages of exactly these versions. Their checksums are for `fetch` below to check."""
        names = [f"{_native(package.architecture, package.name)}={package.version}" for package in packages]
        folder = self._folder / "debs"
        self._run("apt-get", "-qq", "download", *names, cwd=folder)
        for package in packages:
            (folder / package.file).rename(folder / package.kept)


def _native(architecture, name):
    """As apt writes it."""
    return name if architecture == "all" else f"{name}:{architecture}"


def checksum(path):
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()


def fetch(packages, folder, note):
    """Returns where each package lies, by (name, architecture). What was fetched once needs no mirror again."""
    debs = Path(folder) / "debs"
    missing = [package for package in packages if not (debs / package.kept).exists()]
    if missing:
        note(f"fetching {len(missing)} packages from Debian")
        apt = Apt(folder)
        apt.update()
        offers = apt.offered([(package.architecture, package.name) for package in missing])
        changed = [
            f"  {package.name} {package.version} ({package.sha256}), and Debian now has "
            + (f"{offer.version} ({offer.sha256})" if offer else "none of that name")
            for package, offer in zip(missing, offers)
            if offer != package
        ]
        if changed:
            raise Error(
                "packages.lock names\n" + "\n".join(changed) + "\n"
                "Way out: deploy/image/lock, look at what changed (git diff), test, commit."
            )
        apt.fetch(missing)
    found = {}
    for package in packages:
        path = debs / package.kept
        if checksum(path) != package.sha256:
            path.unlink()
            raise Error(f"{package.file} is not what apt's index says, or damaged; it is removed, try again")
        found[package.name, package.architecture] = path
    return found


def unpack(deb, folder):
    """Unpacks a package, unless this very one is there already."""
    folder = Path(folder)
    done = folder.with_name(folder.name + ".done")
    if done.exists() and done.read_text() == deb.name:
        return folder
    done.unlink(missing_ok=True)
    subprocess.run(["rm", "-rf", folder], check=True)
    folder.mkdir(parents=True)
    subprocess.run(["dpkg-deb", "--extract", deb, folder], check=True, env={**os.environ, "LC_ALL": "C"})
    done.write_text(deb.name)
    return folder
