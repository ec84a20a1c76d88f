"""What the lab's tests say and wait with."""

import time


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
