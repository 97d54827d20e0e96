"""How good predictions are, each figure with its uncertainty. numpy only."""

from models.metrics.calibration import ReliabilityBin, calibration, calibration_error, reliability
from models.metrics.comparison import (
    Comparison,
    compare_classified,
    compare_label_sets,
    compare_numbers,
    difference_of_means,
    difference_of_proportions,
    mcnemar,
    paired_difference,
    paired_macro_f1_difference,
    verdict,
)
from models.metrics.confusion import Confusion, Margins, averages, confusion_matrix, macro_scores, of_each_class
from models.metrics.drift import Drift, drift, jensen_shannon, psi, psi_noise
from models.metrics.estimated import Calibrator, estimated_accuracy
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
    "Calibrator",
    "Classified",
    "Comparison",
    "Confusion",
    "Drift",
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
    "compare_classified",
    "compare_label_sets",
    "compare_numbers",
    "confusion_matrix",
    "difference_of_means",
    "difference_of_proportions",
    "drawn_means",
    "drift",
    "errors",
    "estimated_accuracy",
    "jensen_shannon",
    "macro_scores",
    "mcnemar",
    "mean",
    "multiclass",
    "multilabel",
    "of_each_class",
    "of_means",
    "paired_difference",
    "paired_macro_f1_difference",
    "percentiles",
    "proportion",
    "psi",
    "psi_noise",
    "r2",
    "regression",
    "reliability",
    "residuals",
    "verdict",
]
