"""Coverage-guided fuzzing by atheris: `python -m tests.iec104.fuzz_main asdu|frames [options of libFuzzer]`.

It runs until something is found, or for `-runs=` executions; `make fuzz` is the suite's long form.
"""

from __future__ import annotations

import importlib
import logging
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import structlog

LONGEST_S = 0.01  # of the processor's time: no input takes longer, however busy the machine


def main() -> None:
    """Fuzz one target from its corpus on, and keep there what reaches something new."""
    atheris: Any = importlib.import_module("atheris")  # not everywhere: it has wheels for few machines
    with atheris.instrument_imports(include=["bridge.iec104"]):
        fuzz = importlib.import_module("tests.iec104.fuzz")
    name = sys.argv.pop(1)
    target = fuzz.TARGETS[name]
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL), cache_logger_on_first_use=True
    )

    def timed(octets: bytes) -> None:
        took_s = _took_s(target, octets)
        if took_s > LONGEST_S:  # a busy machine, or a collection of garbage: how long does it take at best?
            took_s = min(_took_s(target, octets) for _ in range(9))
        assert took_s <= LONGEST_S, f"{took_s} s for {octets.hex()}"

    folder: Path = fuzz.CORPUS / name
    folder.mkdir(parents=True, exist_ok=True)
    atheris.Setup([*sys.argv, str(folder)], timed)
    atheris.Fuzz()


def _took_s(target: Callable[[bytes], None], octets: bytes) -> float:
    began_s = time.thread_time()
    target(octets)
    return time.thread_time() - began_s


if __name__ == "__main__":
    main()
