"""Brings a newer system to a box over the network: POST /update, and what the box says of itself from then on."""

import base64
import getpass
import hashlib
import http.client
import json
import os
import ssl
import sys
import time
from urllib.parse import unquote, urlsplit

import signature
from card import USER, Error

PIECE = 64 * 1024
# A box that takes nothing for so long is gone: a worn card takes seconds for what others take at once.
PATIENCE = 150
BEGINNING = 30
# It starts, tries the new system for up to 2 minutes, and may then start the old one.
TRIAL = 300


class Box:
    def __init__(self, url, user=None, cacert=None, fingerprint=None, insecure=False):
        parts = urlsplit(url)
        try:
            self.port = parts.port
        except ValueError:
            self.port = None
        if not parts.hostname or parts.query or parts.fragment:
            raise Error(f"{url} is no address of a box; write http://camd-XXXX.local:8080 or https://...")
        self.host, self.path = parts.hostname, parts.path.rstrip("/")
        self.is_encrypted = parts.scheme == "https"
        self.fingerprint = fingerprint and fingerprint.replace(":", "").lower()
        self.context = None
        if self.is_encrypted:
            self.context = ssl.create_default_context(cafile=cacert)
            if fingerprint or insecure:
                self.context.check_hostname, self.context.verify_mode = False, ssl.CERT_NONE
        elif cacert or fingerprint or insecure:
            raise Error("--cacert, --fingerprint and --insecure are for https://")
        user = user or unquote(parts.username or USER)
        password = parts.password and unquote(parts.password)
        if password is None:
            password = os.environ.get("CAMD_PASSWORD")
        if password is None:
            password = getpass.getpass(f"password of {user} at {self.host}: ")
        code = base64.b64encode(f"{user}:{password}".encode()).decode()
        self.fields = {"Authorization": f"Basic {code}"}

    def connect(self, timeout):
        if not self.is_encrypted:
            return http.client.HTTPConnection(self.host, self.port, timeout=timeout)
        connection = http.client.HTTPSConnection(self.host, self.port, timeout=timeout, context=self.context)
        connection.connect()
        if self.fingerprint:
            shown = hashlib.sha256(connection.sock.getpeercert(binary_form=True)).hexdigest()
            if shown != self.fingerprint:
                raise Error(f"{self.host} shows another certificate, with the fingerprint {shown}")
        return connection

    def state(self, timeout=10):
        connection = self.connect(timeout)
        try:
            connection.request("GET", f"{self.path}/state?once", headers=self.fields)
            answer = connection.getresponse()
            body = answer.read()
        finally:
            connection.close()
        if answer.status != 200:
            raise Error(f"{self.host}: {body.decode(errors='replace').strip()}")
        return json.loads(body)

    def send(self, image, older, told):
        """The status and the words of the box's answer."""
        size = os.path.getsize(image)
        connection = self.connect(PATIENCE)
        try:
            connection.putrequest("POST", f"{self.path}/update" + "?older" * older)
            for name, value in {**self.fields, "Content-Length": str(size)}.items():
                connection.putheader(name, value)
            connection.endheaders()
            sent = 0
            with open(image, "rb") as file:
                while piece := file.read(PIECE):
                    try:
                        connection.send(piece)
                    except (BrokenPipeError, ConnectionResetError):
                        break  # It has answered.
                    sent += len(piece)
                    told(sent, size)
            answer = connection.getresponse()
            return answer.status, answer.read().decode(errors="replace").strip()
        finally:
            connection.close()


def version_of(image):
    """What an image says that it is; the box looks at its signature."""
    with open(image, "rb") as file:
        file.seek(signature.PLACE)
        lines = file.read(signature.SIZE).split(b"\0")[0].decode(errors="replace").splitlines()
    if not lines or lines[0] + "\n" != signature.MAGIC:
        raise Error(f"{image} is no image of a camera box that can be sent to one; write it to the card")
    return lines[1].removeprefix("version ")


def show(sent, size):
    if sys.stderr.isatty():
        print(f"\r{100 * sent // size} % sent", end="" if sent < size else "\n", file=sys.stderr, flush=True)


def update(box, image, older=False):
    """Returns what to tell."""
    wanted = version_of(image)
    deadline = time.monotonic() + BEGINNING
    # One that has just started has not looked after itself yet.
    while not (before := box.state()).get("box") and "box" in before and time.monotonic() < deadline:
        time.sleep(1)
    if not before.get("box"):
        raise Error(f"{box.host} is no camera box")
    if not before["you"].get("updates"):
        raise Error(f'{box.host}: this user has no "update" in may, in the box\'s camd.toml, or the box takes no updates')
    status, said = box.send(image, older, show)
    if status != 200:
        raise Error(f"{box.host}: {said}. What runs has not changed")
    print(said, file=sys.stderr)
    old, deadline = before["box"]["slot"], time.monotonic() + TRIAL
    seen = None
    while time.monotonic() < deadline:
        time.sleep(2)
        try:
            now = box.state(5)
        except (OSError, http.client.HTTPException, Error, ValueError):
            continue
        it = now.get("box") or {}
        failed = [line for line in it.get("problems", []) if "update has failed" in line]
        if failed:
            raise Error(f"{box.host}: {failed[0]}")
        if it.get("slot") not in (None, old):
            seen = it
            # While it is on trial it takes no other one.
            if it.get("update") == "tried and kept":
                return f"tried; the box runs {it['version']} now"
        elif seen or (it.get("slot") == old and now["uptime_s"] < before["uptime_s"]):
            raise Error(f"{box.host} runs {it.get('version')} again: {wanted} was not well; see camd-errors.txt on the card")
    if seen:
        raise Error(f"{box.host} runs {seen['version']}, but has not said within {TRIAL} s that it stays so")
    raise Error(f"{box.host} has not answered for {TRIAL} s; look at its light, and at camd-errors.txt on the card")
