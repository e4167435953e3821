"""A few lines that run checks one after the other and say which failed."""

import inspect
import time
import traceback

CHECKS = []


def check(function):
    """Marks a promise: its name says which."""
    CHECKS.append(function)
    return function


def fails(call, *texts):
    """The exception that a call raises, which must say each of these."""
    try:
        call()
    except Exception as error:  # noqa: BLE001: whatever the client raises
        for text in texts:
            assert text in str(error), f"{text!r} is not in {error!s}"
        return error
    raise AssertionError("no error")


def run(title, *arguments):
    """Runs all checks; returns how many failed."""
    failed = 0
    start = time.monotonic()
    for function in CHECKS:
        try:
            outcome = function(*arguments)
            if inspect.isawaitable(outcome):
                raise TypeError("a coroutine: run it with asyncio")
        except Exception:  # noqa: BLE001: the next check runs whatever this one does
            failed += 1
            print(f"{title}: {function.__name__} FAILED\n{traceback.format_exc(limit=-4)}")
    print(f"{title}: {len(CHECKS) - failed} of {len(CHECKS)} checks passed in {time.monotonic() - start:.1f} s")
    return failed


async def run_async(title, *arguments):
    """The same for coroutines."""
    failed = 0
    start = time.monotonic()
    for function in CHECKS:
        try:
            await function(*arguments)
        except Exception:  # noqa: BLE001: the next check runs whatever this one does
            failed += 1
            print(f"{title}: {function.__name__} FAILED\n{traceback.format_exc(limit=-4)}")
    print(f"{title}: {len(CHECKS) - failed} of {len(CHECKS)} checks passed in {time.monotonic() - start:.1f} s")
    return failed
