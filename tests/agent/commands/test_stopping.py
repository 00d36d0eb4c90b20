"""Ctrl-C while the main thread is inside one long computation, where Python's own handlers have to wait."""

import signal
import subprocess
import sys
import time

import pytest

# One call of compiled code that lasts some seconds and releases the interpreter's lock, as products of matrices do.
LONG_CALL = """
import hashlib, sys
from agent.commands.stopping import stoppable
with stoppable() as stop:
    print("begun", flush=True)
    hashlib.pbkdf2_hmac("sha512", b"words", b"salt", {rounds})
    print("ended", stop(), flush=True)
"""


def start(rounds):
    command = [sys.executable, "-c", LONG_CALL.format(rounds=rounds)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "begun\n"
    return process


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_two_signals_during_one_long_call_end_the_process_at_once(number):
    process = start(rounds=200_000_000)
    process.send_signal(number)
    assert "Ctrl-C again stops at once" in process.stderr.readline() + process.stderr.readline()
    process.send_signal(number)
    asked = time.monotonic()
    out, _errors = process.communicate(timeout=30)
    assert process.returncode == 130
    assert out == ""
    assert time.monotonic() - asked < 5


def test_a_stderr_that_is_gone_does_not_keep_the_second_signal_from_ending_it():
    process = start(rounds=200_000_000)
    process.stderr.close()
    for _ in range(2):
        process.send_signal(signal.SIGINT)
        time.sleep(0.5)
    assert process.wait(timeout=5) == 130
    process.stdout.close()


def test_one_signal_lets_the_call_finish_and_is_told_to_it():
    process = start(rounds=1_000_000)
    process.send_signal(signal.SIGINT)
    out, errors = process.communicate(timeout=60)
    assert process.returncode == 0
    assert out == "ended True\n"
    assert errors.count("Ctrl-C again stops at once") == 1


@pytest.mark.parametrize("body", ["pass", "raise ValueError"])
def test_everything_is_as_before_afterwards(body):
    code = f"""
import signal, threading
from contextlib import suppress
from agent.commands.stopping import STOPS, stoppable
before = [signal.getsignal(number) for number in STOPS]
with suppress(ValueError), stoppable():
    {body}
print([signal.getsignal(number) for number in STOPS] == before, signal.set_wakeup_fd(-1), threading.active_count())
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=True)
    assert (done.stdout, done.stderr) == ("True -1 1\n", "")
