"""Coverage-guided fuzzing by atheris: `python -m tests.iec104.fuzz_main asdu|frames [options of libFuzzer]`.

It runs until something is found, or for `-runs=` executions; `make fuzz` is the suite's long form.
"""

from __future__ import annotations

import importlib
import logging
import sys
import time
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
        began_s = time.thread_time()
        target(octets)
        took_s = time.thread_time() - began_s
        assert took_s < LONGEST_S or _took_s(target, octets) < LONGEST_S, f"{took_s} s for {octets.hex()}"

    folder: Path = fuzz.CORPUS / name
    folder.mkdir(parents=True, exist_ok=True)
    atheris.Setup([*sys.argv, str(folder)], timed)
    atheris.Fuzz()


def _took_s(target: Any, octets: bytes) -> float:
    """Once again: a collection of garbage may have been in between."""
    began_s = time.thread_time()
    target(octets)
    return time.thread_time() - began_s


if __name__ == "__main__":
    main()
