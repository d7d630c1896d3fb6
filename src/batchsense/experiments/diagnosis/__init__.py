"""Diagnosis of batch effects: shares of variance, confounding, one verdict."""

from batchsense.experiments.diagnosis.diagnosis import Diagnosis, KeptDiagnosis, diagnose
from batchsense.experiments.diagnosis.permutation import Null
from batchsense.experiments.diagnosis.shares import Share, share_of_variance
from batchsense.experiments.diagnosis.verdict import Verdict, judge

__all__ = [
    "Diagnosis",
    "KeptDiagnosis",
    "Null",
    "Share",
    "Verdict",
    "diagnose",
    "judge",
    "share_of_variance",
]
