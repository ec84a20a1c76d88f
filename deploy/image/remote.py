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
        self.fingerprint = fingerprint and digits_of(fingerprint)
        self.context = None
        if self.is_encrypted:
            try:
                self.context = ssl.create_default_context(cafile=cacert)
            except (OSError, ssl.SSLError) as error:
                raise Error(f"--cacert {cacert}: {error.strerror or error}; it must be a certificate in PEM") from None
            if fingerprint or insecure:
                self.context.check_hostname, self.context.verify_mode = False, ssl.CERT_NONE
        elif cacert or fingerprint or insecure:
            raise Error("--cacert, --fingerprint and --insecure are for https://")
        user = user or unquote(parts.username or USER)
        password = parts.password and unquote(parts.password)
        if password is None:
            password = os.environ.get("CAMD_PASSWORD")
        if password is None:
            try:
                password = getpass.getpass(f"password of {user} at {self.host}: ")
            except EOFError:
                raise Error(f"the password of {user} cannot be asked for here: put it in CAMD_PASSWORD") from None
        code = base64.b64encode(f"{user}:{password}".encode()).decode()
        self.fields = {"Authorization": f"Basic {code}"}

    def connect(self, timeout):
        if self.is_encrypted:
            connection = http.client.HTTPSConnection(self.host, self.port, timeout=timeout, context=self.context)
        else:
            connection = http.client.HTTPConnection(self.host, self.port, timeout=timeout)
        try:
            connection.connect()
        except ssl.SSLCertVerificationError as error:
            raise Error(
                f"{self.host}: its certificate is not to be trusted: {error.verify_message}. Say whom to believe with --cacert "
                "FILE, or with --fingerprint SHA256, as `camd check` prints it"
            ) from None
        except ssl.SSLError as error:
            raise Error(f"{self.host}:{connection.port} does not speak TLS ({error.reason}); is it http://?") from None
        except OSError as error:
            raise Error(f"{self.host}:{connection.port}: {error.strerror or error}; is the box on?") from None
        if self.fingerprint:
            shown = hashlib.sha256(connection.sock.getpeercert(binary_form=True)).hexdigest()
            if shown != self.fingerprint:
                connection.close()
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
        if answer.status == 401:
            raise Error(f"{self.host} does not know this user with this password")
        if answer.status != 200:
            raise Error(f"{self.host}: {answer.status} {body.decode(errors='replace').strip()[:300]}")
        try:
            state = json.loads(body)
        except ValueError:
            state = None
        if not isinstance(state, dict):
            raise Error(f"{self.host} is no camera box")
        return state

    def send(self, image, older, told):
        """The status and the words of the box's answer."""
        size, sent = os.path.getsize(image), 0
        connection = self.connect(PATIENCE)
        try:
            connection.putrequest("POST", f"{self.path}/update" + "?older" * older)
            for name, value in {**self.fields, "Content-Length": str(size)}.items():
                connection.putheader(name, value)
            connection.endheaders()
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
        except (OSError, http.client.HTTPException) as error:
            lost = f"{self.host}: the connection was lost ({error})"
            if sent < size:
                raise Error(f"{lost} when {100 * sent // size} % was sent. What runs has not changed; run it again") from None
            raise Error(f"{lost} before the box answered. Its page tells whether it tries the new system") from None
        finally:
            connection.close()


def digits_of(fingerprint):
    """Of what `camd check` or openssl prints."""
    text = fingerprint.strip().lower()
    for start in ("sha256 fingerprint=", "sha256:", "sha256/"):
        text = text[len(start) * text.startswith(start) :]
    digits = text.replace(":", "")
    if len(digits) != 64 or set(digits) - set("0123456789abcdef"):
        raise Error(f"--fingerprint {fingerprint}: allowed: the SHA-256 of a certificate, 64 hexadecimal digits with or without colons")
    return digits


def version_of(image):
    """What an image says that it is; the box looks at its signature."""
    with open(image, "rb") as file:
        file.seek(signature.PLACE)
        lines = file.read(signature.SIZE).split(b"\0")[0].decode(errors="replace").splitlines()
    if not lines or lines[0] + "\n" != signature.MAGIC:
        raise Error(f"{image} is no image of a camera box that can be sent to one; write it to the card")
    return lines[1].partition(" ")[2] if len(lines) > 1 else ""


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
        raise Error(f'{box.host}: this user may not: there is no "update" in its may, in the box\'s camd.toml')
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
