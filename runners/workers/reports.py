"""What several engines have done, as one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields

from llava.generation.request import Calibration, EngineReport

_NOT_SUMMED = ("calibration", "threshold")


def merge_reports(reports: Sequence[EngineReport]) -> EngineReport:
    """Returns sums over engines that measured different questions; the largest threshold.

    >>> one = EngineReport(num_packed=3, threshold=0.5)
    >>> merged = merge_reports([one, EngineReport(num_packed=4)])
    >>> merged.num_packed, merged.threshold
    (7, 0.5)
    """
    calibration = Calibration()
    for report in reports:
        calibration = calibration.merged(report.calibration)
    thresholds = [report.threshold for report in reports if report.threshold is not None]
    return EngineReport(
        calibration=calibration,
        threshold=max(thresholds, default=None),
        **{
            field.name: sum(getattr(report, field.name) for report in reports)
            for field in fields(EngineReport)
            if field.name not in _NOT_SUMMED
        },
    )
