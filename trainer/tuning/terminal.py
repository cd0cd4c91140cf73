"""Shows a search on the terminal: a progress line while it runs, and a table at its end."""

import time
from datetime import timedelta
from typing import Self

import optuna
from rich.console import Console
from rich.progress import Progress, ProgressColumn, SpinnerColumn, Task, TextColumn
from rich.table import Table
from rich.text import Text

from trainer.tuning.search import finished, reason

_TRIALS_TRIALS_SHOWN = 5


class _TimeLeft(ProgressColumn):
    def __init__(self, seconds: float) -> None:
        super().__init__()
        self._end = time.monotonic() + seconds

    def render(self, task: Task) -> Text:  # noqa: ARG002
        left = max(0, round(self._end - time.monotonic()))
        return Text(f"{timedelta(seconds=left)} left")


class ProgressLine:
    """One line with the running trial, the best trial so far and the remaining time."""

    def __init__(self, console: Console, seconds: float) -> None:
        self._progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            _TimeLeft(seconds),
            console=console,
            transient=True,
        )
        self._task = self._progress.add_task("trial 1", total=None)

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._progress.stop()

    def after_trial(self, study: optuna.Study) -> None:
        """Print the result of the last trial and show the next one."""
        best, last = finished(study)[:1], study.get_trials(deepcopy=False)[-1]
        result = reason(last) if last.value is None else f"{last.value:.4f}"
        self._progress.console.print(f"trial {last.number + 1}: {result}", markup=False)
        description = f"trial {last.number + 2}"
        if best:
            description += f", best so far {best[0].value:.4f} (trial {best[0].number + 1})"
        self._progress.update(self._task, description=description)


def show(console: Console, study: optuna.Study, metric: str) -> None:
    """Print the best trials side by side, with the importance of each setting."""
    best = finished(study)[:_TRIALS_TRIALS_SHOWN]
    importances = _importances(study)
    table = Table(title="Best trials", title_justify="left")
    for heading in ("", *(f"trial {trial.number + 1}" for trial in best)):
        table.add_column(heading, justify="right" if heading else "left")
    if importances:
        table.add_column("importance", justify="right")
    table.add_row(metric, *(f"{trial.value:.4f}" for trial in best), end_section=True)
    for key in best[0].params:
        cells = [_format(trial.params[key]) for trial in best]
        cells += [f"{importances[key]:.2f}"] if importances else []
        table.add_row(key.partition(".")[2], *cells)
    console.print(table)


def _format(value: float) -> str:
    return str(value) if isinstance(value, int) else f"{value:.3g}"


def _importances(study: optuna.Study) -> dict[str, float]:
    """Return the importance of each setting, summing to 1; empty if there are too few trials."""
    if len(finished(study)) < _TRIALS_TRIALS_SHOWN:
        return {}
    evaluator = optuna.importance.PedAnovaImportanceEvaluator()
    return optuna.importance.get_param_importances(study, evaluator=evaluator)
