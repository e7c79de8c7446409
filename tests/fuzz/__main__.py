"""Runs a campaign: `python -m tests.fuzz [-n COUNT] [--seed SEED] [--runtime ID] [FILE …]`."""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from pathlib import Path

from .campaign import Campaign, Child
from .originals import ORIGINALS

KEEP = Path("artefacts/fuzz")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("-n", "--count", type=int, default=2000, help="how many mutants")
    parser.add_argument("--seed", type=int, default=1, help="another seed, other mutants")
    parser.add_argument("--children", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--runtime", help="path or id; by default the best one")
    parser.add_argument("--reasons", action="store_true", help="count the messages as well")
    parser.add_argument("--write", type=Path, metavar="FOLDER", help="write the good files there")
    parser.add_argument("files", nargs="*", type=Path, help="try these files instead")
    arguments = parser.parse_args()
    if arguments.write:
        write_originals(arguments.write)
        return
    if arguments.files:
        sys.exit(try_files(arguments.files, arguments.runtime))

    def progress(number: int) -> None:
        if (number + 1) % 1000 == 0:
            print(f"{number + 1} mutants", flush=True)

    campaign = Campaign(arguments.seed, KEEP, arguments.runtime)
    result = campaign.run(arguments.count, arguments.children, progress)
    print(f"\n{arguments.count} mutants of {len(ORIGINALS)} models, seed {arguments.seed}:")
    for code, count in result.codes.most_common():
        print(f"{count:8} {code}")
        if arguments.reasons:
            for reason, times in result.reasons[code].most_common(40):
                print(f"{times:16} {reason[:160]}")
    print(f"{len(result.crashes):8} crashes")
    for crash in result.crashes:
        print(f"\n{crash.cause}: mutant {crash.number} of {crash.original}, kept as {crash.kept}")
        print(crash.last_words)
    sys.exit(1 if result.crashes else 0)


def write_originals(folder: Path) -> None:
    """Write the good files, but for split ones."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as elsewhere:
        for name, make in ORIGINALS.items():
            files = make(Path(elsewhere))
            if not isinstance(files, list):
                (folder / f"{name}.gguf").write_bytes(files.encode()[0])


def try_files(files: list[Path], runtime: str | None) -> int:
    """Try single files, e.g. what an earlier campaign kept."""
    crashes = 0
    with tempfile.TemporaryDirectory() as folder:
        for file in files:
            with Child(Path(folder), runtime) as child:
                answer = child.trial(file.absolute())
                if answer is None:
                    crashes += 1
                    answer = f"{child.cause_of_death()}\n{child.last_words()}"
            print(f"{file.name}: {answer}")
    return 1 if crashes else 0


if __name__ == "__main__":
    main()
