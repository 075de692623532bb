# SPDX-License-Identifier: Apache-2.0
"""
One target of this folder: under atheris, or once for each file.

python -m tests.fuzz.harness ipc|text|records [libFuzzer's arguments]
python -m tests.fuzz.harness --replay ipc|text|records [FILE...]
"""

from __future__ import annotations

import importlib
import inspect
import logging
import pkgutil
import resource
import sys
from pathlib import Path

import zcrx_arrow.decoders

FOLDER = Path(__file__).parent
CORPUS = FOLDER / "corpus"
TARGETS = ("ipc", "text", "records")
# Of address space: a short input that makes more of itself has found something.
MOST_BYTES = 6 << 30


def _limit() -> None:
    resource.setrlimit(resource.RLIMIT_AS, (MOST_BYTES, resource.getrlimit(resource.RLIMIT_AS)[1]))


def replay(name: str, files: list[str]) -> int:
    """Run inputs once; a crash of the process leaves the name of the last one."""
    _limit()
    target = importlib.import_module(f"tests.fuzz.{name}")
    paths = [Path(file) for file in files] or sorted((CORPUS / name).iterdir())
    bad = 0
    for path in paths:
        print(path, flush=True)
        try:
            target.check(path.read_bytes())
        except Exception as error:  # noqa: BLE001 - whatever it is, the others run too
            bad += 1
            print(f"  {type(error).__name__}: {error}", flush=True)
    print(f"{len(paths)} inputs, {bad} bad")
    return 1 if bad or not paths else 0


def _functions(owner) -> list:
    """Functions of a module, and of its classes."""
    found = []
    for value in vars(owner).values():
        each = value.fget if isinstance(value, property) else inspect.unwrap(value)
        each = getattr(each, "__func__", each)
        if inspect.isclass(value) and inspect.ismodule(owner):
            if value.__module__ == owner.__name__:
                found += _functions(value)
        elif inspect.isfunction(each) and each.__module__.startswith("zcrx_arrow."):
            found.append(each)
    return found


def fuzz(name: str, arguments: list[str]) -> None:
    """Hand over to libFuzzer; does not come back."""
    import atheris

    _limit()
    target = importlib.import_module(f"tests.fuzz.{name}")
    package = zcrx_arrow.decoders
    names = [each.name for each in pkgutil.iter_modules(package.__path__, package.__name__ + ".")]
    for module in (*names, "zcrx_arrow._pipeline", "zcrx_arrow._raw", "zcrx_arrow.replay"):
        for function in _functions(importlib.import_module(module)):
            atheris.instrument_func(function)
    options = {}
    if hasattr(target, "mutate"):

        def mutate(data: bytes, most: int, seed: int) -> bytes:
            made = target.mutate(data, most, seed)
            return atheris.Mutate(data, most) if made is None else made

        options["custom_mutator"] = mutate
    atheris.Setup([sys.argv[0], *arguments], target.check, **options)
    atheris.Fuzz()


if __name__ == "__main__":
    logging.disable()
    if sys.argv[1] == "--replay":
        sys.exit(replay(sys.argv[2], sys.argv[3:]))
    fuzz(sys.argv[1], sys.argv[2:])
