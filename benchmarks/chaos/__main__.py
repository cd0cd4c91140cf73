"""Play scenarios; exit status 1 if one of them did not hold."""

import argparse
import signal
import sys
from pathlib import Path

from rich.console import Console

from benchmarks.chaos import report
from benchmarks.chaos.catalogue import made
from benchmarks.chaos.checks import Broken
from benchmarks.chaos.lab import Lab, Times
from benchmarks.chaos.processes import ROOT, now
from benchmarks.chaos.scenarios import SCENARIOS

_WORK = ROOT / "build" / "chaos"


def play(name: str, lab: Lab) -> report.Result:
    """One scenario, from its start to the end of all that it started."""
    scenario = SCENARIOS[name]
    title = (scenario.__doc__ or "").splitlines()[0].rstrip(".")
    result = report.Result(name, title)
    begun = now()
    try:
        for check in scenario(lab):
            result.checks.append(check)
    except Broken as broken:
        result.broken = str(broken)
    result.seconds = now() - begun
    return result


def options() -> argparse.Namespace:
    """What the command line says."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.chaos", description=__doc__.splitlines()[0] if __doc__ else None
    )
    add = parser.add_argument
    add("scenarios", nargs="*", metavar="SCENARIO", help=f"of: {', '.join(SCENARIOS)} (all)")
    add("--rate", type=float, default=500.0, help="requests a second")
    add("--calm-s", type=float, default=Times.calm, help="of load before and after the harm")
    add("--overload-s", type=float, default=Times.overload)
    add("--soak-s", type=float, default=Times.soak)
    add("--fuzzed", type=int, default=100_000, metavar="N", help="requests of fuzz")
    add("--models-dir", type=Path, help="made by benchmarks.service.model (made in --work-dir)")
    add("--work-dir", type=Path, default=_WORK)
    add("--document", type=Path, metavar="FILE", help="write the table into docs/reliability.md")
    arguments = parser.parse_args()
    if unknown := set(arguments.scenarios) - set(SCENARIOS):
        parser.error(f"no scenario {', '.join(sorted(unknown))}; there is: {', '.join(SCENARIOS)}")
    return arguments


def _flags(arguments: argparse.Namespace) -> str:
    """Those that figures depend on."""
    names = ("rate", "calm_s", "overload_s", "soak_s", "fuzzed")
    return " ".join(f"--{one.replace('_', '-')} {getattr(arguments, one):g}" for one in names)


def main() -> int:
    """Play, print, keep."""
    arguments = options()
    console = Console(width=None if sys.stdout.isatty() else 160)
    # Like Ctrl-C: the servers are stopped on the way out.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    # Threads of the load that have an answer to look at keep others from sending for so long.
    sys.setswitchinterval(0.0005)
    work: Path = arguments.work_dir.resolve()
    work.mkdir(parents=True, exist_ok=True)
    lab = Lab(
        models_dir=(arguments.models_dir or made(work / "models")).resolve(),
        work=work,
        rate=arguments.rate,
        fuzzed=arguments.fuzzed,
        times=Times(calm=arguments.calm_s, overload=arguments.overload_s, soak=arguments.soak_s),
    )
    results = []
    for name in arguments.scenarios or SCENARIOS:
        results.append(play(name, lab))
        console.print(report.table(results[-1]))
        known = report.keep(results[-1:], work / "results.json", _flags(arguments))
    if arguments.document:
        report.document(known, list(SCENARIOS), arguments.document)
    lost = [one.name for one in results if not one.held]
    console.print(f"did not hold: {', '.join(lost)}" if lost else "all of it held")
    return 1 if lost else 0


if __name__ == "__main__":
    sys.exit(main())
