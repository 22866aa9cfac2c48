"""Pictures (matplotlib) and the report page (plotly). Both libraries are imported on use."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Any

from deepmd.data.prediction_errors import MeanErrors
from deepmd.infer import measure_errors
from deepmd.infer.error_report import Comparison
from deepmd.report.curves import plot_lcurve
from deepmd.report.libraries import check_picture
from deepmd.report.parity import plot_parity, worst_lines

__all__ = ["draw_errors", "draw_lcurve", "plot_lcurve", "plot_parity"]

log = logging.getLogger(__name__)


def draw_lcurve(path: str | os.PathLike[str], out: str | os.PathLike[str] = "lcurve.png") -> None:
    """Draw a learning curve (`plot_lcurve`), and log where the picture is."""
    plot_lcurve(path, out)
    log.info("Saved the learning curve to %s", out)


def draw_errors(model: str | os.PathLike[str], out: str | os.PathLike[str], **options: Any) -> MeanErrors:
    """Compare a model with labels (`deepmd.infer.measure_errors`, which takes the options), and draw the errors."""
    check_picture(out, model)
    found: list[Comparison] = []
    average = measure_errors(model, on_system=found.append, **options)
    plot_parity(found, out, Path(model).name)
    for line in worst_lines(found):
        log.info("# worst: %s", line)
    log.info("Saved predictions against labels to %s", out)
    return average


def train_and_report(input_path: str | os.PathLike[str], out: str | os.PathLike[str], **options: Any) -> None:
    """Train (`deepmd.train.main.train`, which takes the options), and write a report of the training at its end."""
    from deepmd.report.facts import Pace
    from deepmd.report.page import check_report, write_report
    from deepmd.train.main import train

    check_report(out, input_path)
    pace = Pace()
    train(input_path, on_row=pace.on_row, **options)
    if os.environ.get("RANK", "0") == "0":  # torchrun numbers the processes of a training
        write_report(input_path, out, pace=pace)
