"""python -m fuzz [--minutes 5] [--seed SEED] [--only TARGET]: fuzz everything for a while, in turns.

Prints the seed first. An input that breaks something is written to `inputs/TARGET/`, its story is printed, and at the
end the exit status is 1. With the same seed the same inputs come again, in the same order; the tests run a kept file.
"""

import argparse
import hashlib
import sys
import time
import traceback
from secrets import token_hex

from fuzz import live, targets
from fuzz.targets import INPUTS, Target

MAX_FAILURES = 5  # of one target, then it is left alone


def main() -> int:
    options = _options()
    print(f"seed {options.seed}, {options.minutes:g} minutes", flush=True)
    with live.server() as server:
        chosen = [target for target in [*targets.PURE, *server.targets] if options.only in ("", target.name)]
        if not chosen:
            print(f"no such target: {options.only}", file=sys.stderr)
            return 2
        runs = [_Run(target, options.seed) for target in chosen]
        end = time.monotonic() + options.minutes * 60
        while time.monotonic() < end:
            for run in runs:
                run.take_turn(min(end, time.monotonic() + run.target.turn))
    print(f"{'target':<24}{'inputs':>10}{'broken':>8}")
    for run in runs:
        print(f"{run.target.name:<24}{run.number:>10}{run.failures:>8}")
    return 1 if any(run.failures for run in runs) else 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="fuzz")
    parser.add_argument("--minutes", type=float, default=5)
    parser.add_argument("--seed", default=token_hex(4))
    parser.add_argument("--only", default="", metavar="TARGET")
    return parser.parse_args()


class _Run:
    def __init__(self, target: Target, seed: str) -> None:
        self.target = target
        self.number = 0
        self.failures = 0
        self._seed = seed

    def take_turn(self, until: float) -> None:
        while time.monotonic() < until and self.failures < MAX_FAILURES:
            octets = targets.input_of(self.target, self._seed, self.number)
            self.number += 1
            try:
                self.target.run(octets)
            except Exception:  # whatever it is: that it came is the defect
                self.failures += 1
                print(f"\n{self.target.name}, input {self.number - 1}: {_keep(self.target, octets)}")
                traceback.print_exc(limit=-4, file=sys.stdout)
                sys.stdout.flush()


def _keep(target: Target, octets: bytes) -> str:
    path = INPUTS / target.name / hashlib.sha256(octets).hexdigest()[:12]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(octets)
    return str(path)


if __name__ == "__main__":
    sys.exit(main())
