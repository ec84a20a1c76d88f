"""What the tests of the lab and of the camera box have in common."""

import multiprocessing
import os
import sys
import time
import traceback

# Set by tests/full: what a run repeats, or draws at random, is then done as often as ever.
FULL = bool(os.environ.get("CAMD_FULL"))
# A file where the names of the tests that failed are left, a line each.
FAILED = os.environ.get("CAMD_FAILED")


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
    """The tests of a file, in its order: `@tests(name)` in front of each function. Groups of them run side by side, each
    in a process and with a lab of its own."""

    def __init__(self):
        self.all = []
        self._nice = {}
        self.group("")

    def group(self, name, nice=0):
        """Those that follow share nothing with those before. `nice`: for what takes long and has no deadlines."""
        self._group = name
        self._nice[name] = nice

    def __call__(self, name):
        def add(function, group=self._group):
            self.all.append((name, function, group))
            return function

        return add

    def full(self, name):
        """`@tests.full(name)`: one that only tests/full runs."""
        return self(name) if FULL else lambda function: function

    def chosen(self, names):
        """Those whose names contain one of these words, all without any; none with a word that has a ! in front."""
        without = [word[1:] for word in names if word.startswith("!")]
        words = [word for word in names if not word.startswith("!")] or [""]
        return [
            test
            for test in self.all
            if any(word in test[0] for word in words) and not any(word in test[0] for word in without)
        ]

    def list(self, names):
        print("\n".join(name for name, *_ in self.chosen(names)))
        return 0

    def run(self, title, names, make_lab, expected):
        """Returns the exit code. `make_lab(group)` makes what a group's tests are given: its `close` ends what a test has
        left, and `explain` tells what a reader of a failed run wants to see. `expected` are the errors that speak for
        themselves."""
        chosen = self.chosen(names)
        fork = multiprocessing.get_context("fork")
        running = []
        for group in dict.fromkeys(group for *_, group in chosen):
            tests = [(name, function) for name, function, its in chosen if its == group]
            results, theirs = fork.Pipe(duplex=False)
            process = fork.Process(target=self._run_group, args=(group, tests, make_lab, expected, theirs))
            process.start()
            theirs.close()
            running.append((group, process, results))
        passed = failed = 0
        for group, process, results in running:
            # One word for each test, until its process closes its end, however that comes about.
            ended = False
            while not ended:
                try:
                    result = results.recv()
                except EOFError:
                    break
                ended = result is None
                passed += result is True
                failed += result is False
            process.join()
            if not ended:
                failed += 1
                print(f"FAIL  the process of the tests {group or 'of the first group'} ended with {process.exitcode}")
        print(f"{title}: {passed} passed, {failed} failed", flush=True)
        return 1 if failed or not passed else 0

    def _run_group(self, group, tests, make_lab, expected, results):
        """In a process of its own: sends True or False for each test, and None at the end."""
        os.nice(self._nice[group])
        lab = make_lab(group)
        try:
            for name, function in tests:
                started = time.monotonic()
                try:
                    figures = function(lab)
                except Exception as error:
                    results.send(False)
                    print(f"FAIL  {name}: {error}", flush=True)
                    if FAILED:
                        with open(FAILED, "a") as file:
                            file.write(name + "\n")
                    if not isinstance(error, (Failure, OSError, *expected)):
                        traceback.print_exc(file=sys.stdout)
                    lab.explain()
                    lab.close()
                else:
                    results.send(True)
                    print(f"pass  {name} ({time.monotonic() - started:.1f} s; {figures})", flush=True)
        finally:
            lab.close()
        results.send(None)
