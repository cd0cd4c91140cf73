"""The results of a load test as text and as JSON."""

import argparse
import json
from typing import Any

from query_service.load_test.tally import Tally

#: The reported quantiles, in parts per thousand.
_QUANTILES = {"p50": 500, "p90": 900, "p99": 990, "p99.9": 999}
#: If a process uses more than this share of a core, the load generator may be the bottleneck.
_BUSY_CORES = 0.9


def as_json(tally: Tally, parsed: argparse.Namespace) -> str:
    """Return the results as a JSON object."""
    return json.dumps(_results(tally, parsed), indent=2, ensure_ascii=False)


def as_text(tally: Tally, parsed: argparse.Namespace) -> str:
    """Return the results as lines of text."""
    results = _results(tally, parsed)
    loop = f"{parsed.rate:g} a second" if parsed.rate else f"{parsed.concurrency} in flight"
    call = f"BatchRetrieve of {parsed.batch}" if parsed.batch else "Retrieve"
    latency = ", ".join(f"{name} {ms:.1f}" for name, ms in results["latency_ms"].items())
    lines = [
        ("load", f"{call}, {loop}, {results['seconds']:.1f} s"),
        ("requests", f"{results['requests_per_s']:,.1f} a second, {tally.calls:,} OK"),
    ]
    if parsed.batch:
        lines.append(
            ("users" if parsed.users else "items", f"{results['answers_per_s']:,.1f} a second")
        )
    lines.append(("latency ms", latency))
    if tally.answers:
        versions = ", ".join(str(version) for version in results["model_versions"])
        lines += [
            ("candidates", f"{results['candidates_per_answer']:.1f} an answer"),
            ("popularity", f"{results['popularity_share']:.1%} of the answers"),
            ("versions", versions),
        ]
    errors = [
        f"{name}: {error['count']:,} ({error['example']})"
        for name, error in results["errors"].items()
    ]
    lines += [("" if number else "errors", text) for number, text in enumerate(errors or ["none"])]
    # A closed loop always ends with calls in flight, so they are no news if there are answers.
    if tally.unfinished and (parsed.rate or not tally.answers):
        lines.append(("unfinished", f"{tally.unfinished:,} at the end"))
    cores = ", ".join(f"{cores:.2f}" for cores in tally.cores)
    lines.append(("this tool", f"{cores} of a core"))
    if results["tool"]["limited"]:
        lines.append(("", "the load generator may be the bottleneck: add --processes"))
    return "\n".join(f"{name:<12}{text}" for name, text in lines)


def _results(tally: Tally, parsed: argparse.Namespace) -> dict[str, Any]:
    """Return all results. Latencies and rates count only calls and answers with status OK."""
    seconds = tally.seconds or 1.0
    quantiles = {name: tally.latencies.quantile(share) for name, share in _QUANTILES.items()}
    quantiles["max"] = tally.latencies.largest_s
    return {
        "address": parsed.address,
        "concurrency": None if parsed.rate else parsed.concurrency,
        "rate": parsed.rate,
        "batch": parsed.batch,
        "seconds": tally.seconds,
        "requests": tally.calls,
        "requests_per_s": tally.calls / seconds,
        "answers": tally.answers,
        "answers_per_s": tally.answers / seconds,
        "latency_ms": {name: round(1000 * value, 3) for name, value in quantiles.items()},
        "candidates_per_answer": tally.candidates / (tally.answers or 1),
        "popularity_share": tally.popular / (tally.answers or 1),
        "model_versions": dict(sorted(tally.versions.items())),
        "errors": {
            name: {"count": count, "example": tally.examples[name]}
            for name, count in tally.errors.most_common()
        },
        "unfinished": tally.unfinished,
        "tool": {
            "cores": tally.cores,
            "limited": bool(tally.unsent) or max(tally.cores, default=0.0) > _BUSY_CORES,
        },
    }
