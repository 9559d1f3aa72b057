"""Shared by the commands: parsing, errors in one line with exit status 2, Ctrl-C and SIGTERM."""

import contextlib
import io
import os
import re
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from jaxdodge.fields import ConfigError
from jaxdodge.files import error_line, one_line
from jaxdodge.outputs import lasting_outputs

Options = TypeVar("Options")
# What a value of the help's names may be.
KINDS = {"INT": "a whole number", "FLOAT": "a number"}
# Signals this close together are one request: `timeout` sends two.
ONE_REQUEST_SECONDS = 0.3


def parse(parser: Callable[[], Options]) -> Options:
    """Run a tyro parser; its boxed errors become one line with the option, and status 2."""
    stderr = io.StringIO()
    try:
        with contextlib.redirect_stderr(stderr):
            return parser()
    except SystemExit as stop:
        if stop.code:
            print(_refusal(stderr.getvalue()), file=sys.stderr)
        raise


def _refusal(boxed: str) -> str:
    """An error of tyro in this package's form; an unknown one in its own words."""
    plain = re.sub(r"\x1b\[[0-9;]*m", "", boxed)
    # The title of the box repeats its first line.
    text = one_line(re.sub(r"╭[^╮]*╮|[╭╮╰╯│─]+|-{5,}", " ", plain), len(plain))
    text = text.split(" For full helptext")[0]
    for pattern, form in (
        (r"Missing value for argument '-*(.+?)'.*", "{}: missing; expected a value"),
        (
            r"Missing from [^:]+: -*(\S+)(?: [A-Z]+)? (.*?)(?:[.;] .*|\.)? ?\(required\).*",
            "{}: missing; expected {}",
        ),
        (
            r"Error parsing -*(\S+): .*?(?:: |\[)'(.*?)'.* Argument helptext: \S+ (\S+) .*",
            "{}: invalid value '{}'; expected {}",
        ),
    ):
        found = re.search(pattern, text)
        if found:
            name, *others = found.groups()
            return form.format(name.lower().replace("-", "_"), *(KINDS.get(each, each) for each in others))
    return one_line(text)


def guarded(command: Callable[..., int], *arguments: Any) -> int:
    """Run a command and return its exit status.

    Bad input or an unusable file prints one line on standard error and returns 2; Ctrl-C returns
    130.
    """
    with lasting_outputs(), _second_interrupt_ends():
        try:
            return command(*arguments)
        except ConfigError as error:
            print(error, file=sys.stderr)
        except KeyboardInterrupt:
            print("interrupted", file=sys.stderr)
            return 130
        except OSError as error:
            print(f"{error.filename or ''}: {error_line(error)}".lstrip(": "), file=sys.stderr)
        except Exception:
            reason = _missing_platform()
            if reason is None:
                raise
            print(reason, file=sys.stderr)
        return 2


def _missing_platform() -> str | None:
    """Why JAX has no device, if that is what a command failed of."""
    platforms, jax = os.environ.get("JAX_PLATFORMS", ""), sys.modules.get("jax")
    if not platforms or jax is None:
        return None
    try:
        jax.devices()
    except Exception as error:  # RuntimeError; AssertionError without an NVIDIA GPU
        found = f" ({error_line(error, 300)})" if str(error) else ""
        return f"JAX_PLATFORMS: invalid value {platforms!r}; expected platforms that JAX finds here{found}"
    return None


@contextlib.contextmanager
def _second_interrupt_ends() -> Iterator[None]:
    """Ctrl-C raises KeyboardInterrupt once. Libraries may swallow it; the next one ends at once."""

    def first(number: int, _: Any) -> None:
        signal.signal(number, signal.SIG_DFL)
        raise KeyboardInterrupt

    main = threading.current_thread() is threading.main_thread()
    before = signal.getsignal(signal.SIGINT)
    if not main or before not in (signal.default_int_handler, signal.SIG_DFL):
        yield
        return
    signal.signal(signal.SIGINT, first)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


class Interrupt:
    """The first Ctrl-C, SIGTERM or SIGHUP asks for an orderly end; a later one ends at once.

    The answer is printed at once, also while the main thread is in the compiler, where Python's own
    handlers wait: a thread reads the signals from the wakeup descriptor of the interpreter. As a
    context manager, it restores the former signal handlers at its end. A SIGHUP that is ignored, as
    after nohup, stays so.

    Args:
        orderly: whether there is something to save already; else the first one ends at once too.
        answer: what follows the name of the signal.
    """

    SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

    def __init__(self, orderly: bool = True, answer: str = "saving and stopping") -> None:
        self.signal: signal.Signals | None = None
        self.orderly = orderly
        self._answer = answer
        self._lock = threading.Lock()
        self._reader, self._writer = socket.socketpair()
        self._writer.setblocking(False)
        numbers = [
            number
            for number in self.SIGNALS
            if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN
        ]
        self._before = {number: signal.signal(number, self._handle) for number in numbers}
        self._wakeup_before = signal.set_wakeup_fd(self._writer.fileno(), warn_on_full_buffer=False)
        threading.Thread(target=self._listen, name="interrupt", daemon=True).start()

    def __enter__(self) -> "Interrupt":
        return self

    def __exit__(self, *_: object) -> None:
        signal.set_wakeup_fd(self._wakeup_before)
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._writer.close()

    def reason(self) -> str | None:
        """The signal that asked for the end, by name; None if there was none."""
        if self.signal is None:
            return None
        return "Ctrl-C" if self.signal == signal.SIGINT else self.signal.name

    def _handle(self, number: int, _: Any) -> None:
        self._request(number)

    def _listen(self) -> None:
        first = None
        while received := self._reader.recv(1):
            if received[0] in self._before:
                now = time.monotonic()
                first = first or now
                if now > first + ONE_REQUEST_SECONDS:
                    os._exit(128 + received[0])
                self._request(received[0])
        self._reader.close()

    def _request(self, number: int) -> None:
        with self._lock:
            if self.signal is not None:
                return
            self.signal = signal.Signals(number)
            if not self.orderly:
                # Libraries and callbacks could swallow an exception.
                print("interrupted", file=sys.stderr, flush=True)
                os._exit(128 + number)
            # A terminal shows ^C at the start of the line.
            start = "\n" if sys.stderr.isatty() else ""
            print(f"{start}{self.reason()}: {self._answer}", file=sys.stderr, flush=True)
