"""What the tests of the lab and of the camera box have in common."""

import os
import sys
import time
import traceback

# Set by tests/full: what a run repeats, or draws at random, is then done as often as ever.
FULL = bool(os.environ.get("CAMD_FULL"))


class Failure(Exception):
    pass


def check(condition, what):
    if not condition:
        raise Failure(what)


def wait_until(condition, timeout, what):
    """Waits until `condition()` is true, and returns what it was; `what` may be a function, to tell the latest figures."""
    deadline = time.monotonic() + timeout
    while not (found := condition()):
        if time.monotonic() > deadline:
            raise Failure(f"not within {timeout} s: {what() if callable(what) else what}")
        time.sleep(0.1)
    return found


class Tests:
    """The tests of a file, in its order: `@tests(name)` in front of each function."""

    def __init__(self):
        self.all = []

    def __call__(self, name):
        def add(function):
            self.all.append((name, function))
            return function

        return add

    def chosen(self, names):
        """Those whose names contain one of these words, all without any; none with a word that has a ! in front."""
        without = [word[1:] for word in names if word.startswith("!")]
        words = [word for word in names if not word.startswith("!")] or [""]
        return [
            (name, function)
            for name, function in self.all
            if any(word in name for word in words) and not any(word in name for word in without)
        ]

    def list(self, names):
        print("\n".join(name for name, _ in self.chosen(names)))
        return 0

    def run(self, title, names, lab, close, expected, explain=lambda: None):
        """Returns the exit code. `close` ends what a test has left; `expected` are the errors that speak for themselves."""
        passed = failed = 0
        try:
            for name, function in self.chosen(names):
                started = time.monotonic()
                try:
                    figures = function(lab)
                except Exception as error:
                    failed += 1
                    print(f"FAIL  {name}: {error}", flush=True)
                    if not isinstance(error, (Failure, OSError, *expected)):
                        traceback.print_exc(file=sys.stdout)
                    explain()
                    close()
                else:
                    passed += 1
                    print(f"pass  {name} ({time.monotonic() - started:.1f} s; {figures})", flush=True)
        finally:
            close()
        print(f"{title}: {passed} passed, {failed} failed")
        return 1 if failed or not passed else 0
