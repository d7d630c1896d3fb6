"""The built-in real data: digits and their forms, and Python's own source text."""

from batchsense.datasets.confounded_forms import DigitForms, digit_forms
from batchsense.datasets.digits import FORM_STARTS, Digits, load_digits
from batchsense.datasets.python_source import ALPHABET, PythonSource, python_source

__all__ = [
    "ALPHABET",
    "FORM_STARTS",
    "DigitForms",
    "Digits",
    "PythonSource",
    "digit_forms",
    "load_digits",
    "python_source",
]
