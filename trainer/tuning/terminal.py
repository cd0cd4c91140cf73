"""Prints the result of each trial as it ends, and a table of the best trials."""

import optuna
from rich.console import Console
from rich.status import Status
from rich.table import Table

from trainer.tuning.search import failure_reason, finished_trials

_TRIALS_SHOWN = 5
_MIN_TRIALS_FOR_IMPORTANCE = 5


def show_trial(status: Status, study: optuna.Study) -> None:
    """Print the result of the last trial, and show the next and the best trial in ``status``."""
    best, last = finished_trials(study)[:1], study.get_trials(deepcopy=False)[-1]
    result = failure_reason(last) if last.value is None else f"{last.value:.4f}"
    status.console.print(f"trial {last.number + 1}: {result}", markup=False)
    text = f"trial {last.number + 2}"
    if best:
        text += f", best so far {best[0].value:.4f} (trial {best[0].number + 1})"
    status.update(text)


def show_best_trials(console: Console, study: optuna.Study, metric: str) -> None:
    """Print the best trials side by side, with the importance of each searched setting."""
    best = finished_trials(study)[:_TRIALS_SHOWN]
    importances = _importances(study)
    table = Table(title="Best trials", title_justify="left")
    table.add_column("")
    for trial in best:
        table.add_column(f"trial {trial.number + 1}", justify="right")
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
    """Return the importances of the settings, which sum to 1; {} if there are too few trials."""
    if len(finished_trials(study)) < _MIN_TRIALS_FOR_IMPORTANCE:
        return {}
    evaluator = optuna.importance.PedAnovaImportanceEvaluator()
    return optuna.importance.get_param_importances(study, evaluator=evaluator)
