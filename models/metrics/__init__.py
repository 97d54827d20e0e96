"""How good predictions are, each figure with its uncertainty. numpy only."""

from models.metrics.calibration import ReliabilityBin, calibration, calibration_error, reliability
from models.metrics.confusion import Margins, averages, confusion_matrix, macro_scores, of_each_class
from models.metrics.estimates import (
    NUM_RESAMPLES,
    Array,
    Estimate,
    Undefined,
    drawn_means,
    mean,
    of_means,
    percentiles,
    proportion,
)
from models.metrics.numbers import errors, r2, residuals
from models.metrics.ranking import auc, average_precision, codes_of
from models.metrics.reports import Classified, binary, classification, multiclass, multilabel, regression

__all__ = [
    "NUM_RESAMPLES",
    "Array",
    "Classified",
    "Estimate",
    "Margins",
    "ReliabilityBin",
    "Undefined",
    "auc",
    "average_precision",
    "averages",
    "binary",
    "calibration",
    "calibration_error",
    "classification",
    "codes_of",
    "confusion_matrix",
    "drawn_means",
    "errors",
    "macro_scores",
    "mean",
    "multiclass",
    "multilabel",
    "of_each_class",
    "of_means",
    "percentiles",
    "proportion",
    "r2",
    "regression",
    "reliability",
    "residuals",
]
