"""How numbers are written for people: few digits, a unit, and never without their uncertainty."""

from __future__ import annotations

import math
from collections.abc import Sequence

from batchsense.reports.envelope import Estimate

_SUPERSCRIPT = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def number(value: float | None, digits: int = 3) -> str:
    """Write a number with a few significant digits.

    Examples
    --------
    >>> number(1234567), number(0.012345), number(2.0), number(3.1e-7), number(None)
    ('1,234,567', '0.0123', '2', '3.1 × 10⁻⁷', '–')
    """
    if value is None:
        return "–"
    if not math.isfinite(value):
        return "∞" if value > 0 else "−∞" if value < 0 else "undefined"
    if value == round(value) and abs(value) < 1e9:
        return _minus(f"{round(value):,}")
    size = math.floor(math.log10(abs(value)))
    if size < -4 or size >= 9:
        mantissa, power = f"{value:.{digits - 1}e}".split("e")
        mantissa = mantissa.rstrip("0").rstrip(".") if "." in mantissa else mantissa
        return f"{_minus(mantissa)} × 10{str(int(power)).translate(_SUPERSCRIPT)}"
    # Whole places are never rounded away: 1,795.4 of 1,797 must not become 1,800.
    return _minus(f"{value:,.{max(digits - 1 - size, 0)}f}")


def percent(value: float | None, digits: int = 2) -> str:
    """Write a fraction as a percentage.

    Examples
    --------
    >>> percent(0.0404), percent(0.421), percent(None)
    ('4.0 %', '42 %', '–')
    """
    return "–" if value is None else f"{number(100 * value, digits)} %" if value else "0 %"


def ratio(value: float | None) -> str:
    """Write a number that is compared with 1: always with two decimals.

    Examples
    --------
    >>> ratio(1.0), ratio(13.952), ratio(None)
    ('1.00', '13.95', '∞')
    """
    return "∞" if value is None else f"{value:,.2f}"


def seconds(value: float | None, digits: int = 3) -> str:
    """Write a time with a unit that suits it.

    Examples
    --------
    >>> seconds(0.00213), seconds(45.6), seconds(5400), seconds(4e-6)
    ('2.13 ms', '45.6 s', '1.50 h', '4 µs')
    """
    limits = ((1e-3, "µs", 1e-6), (1.0, "ms", 1e-3), (120.0, "s", 1.0), (3600.0, "min", 60.0))
    return _in_unit(value, (*limits, (math.inf, "h", 3600.0)), digits)


def size(value: float | None) -> str:
    """Write a number of bytes.

    Examples
    --------
    >>> size(512), size(3_200_000), size(7.25e9)
    ('512 B', '3.20 MB', '7.25 GB')
    """
    limits = ((1e3, "B", 1.0), (1e6, "kB", 1e3), (1e9, "MB", 1e6), (math.inf, "GB", 1e9))
    return _in_unit(value, limits, 3)


def span(low: float | None, high: float | None, digits: int = 3, scale: float = 1.0) -> str:
    """Write the two ends of an interval; a missing end is said in words.

    Both ends get as many decimals as the width of the interval deserves.

    Examples
    --------
    >>> span(1.0, 4.0), span(10.0, None), span(None, None)
    ('1.0 to 4.0', 'at least 10', 'no bound found')
    >>> span(-1.01331, -0.99895), span(67.3, 94.9)
    ('−1.013 to −0.999', '67 to 95')
    """
    if low is None and high is None:
        return "no bound found"
    if high is None:
        return f"at least {number(scale * (low or 0.0), digits)}"
    if low is None:
        return f"at most {number(scale * high, digits)}"
    ends = (scale * low, scale * high)
    places = _places(*ends)
    return " to ".join(_written(end, places, digits) for end in ends)


def with_interval(value: Estimate, unit: str = "", digits: int = 3, scale: float = 1.0) -> str:
    """Write an estimate with its interval, all with the decimals that the interval deserves.

    Examples
    --------
    >>> with_interval(Estimate(estimate=0.25, low=0.2, high=0.31), " %", scale=100)
    '25 % (95 % interval 20 to 31)'
    >>> with_interval(Estimate(estimate=None, low=40, high=None), " examples")
    'unresolved: at least 40 examples'
    """
    ends = span(value.low, value.high, digits, scale)
    if value.estimate is None:
        return f"unresolved: {ends}{unit}"
    written = estimate(value, digits, scale)
    return f"{written}{unit} ({number(100 * value.level)} % interval {ends})"


def estimate(value: Estimate, digits: int = 3, scale: float = 1.0) -> str:
    """Write an estimate alone, with the decimals that its interval deserves.

    Examples
    --------
    >>> estimate(Estimate(estimate=3.3117, low=2.6471, high=4.6758))
    '3.3'
    """
    if value.estimate is None:
        return "–"
    places = None
    if value.low is not None and value.high is not None:
        places = _places(scale * value.low, scale * value.high)
    return _written(scale * value.estimate, places, digits)


def spread(sizes: Sequence[int]) -> str:
    """Write the smallest and the largest size.

    Examples
    --------
    >>> spread([24, 24]), spread([12, 10])
    ('24', '10 to 12')
    """
    low, high = min(sizes), max(sizes)
    return f"{low}" if low == high else f"{low} to {high}"


def _places(low: float, high: float) -> int | None:
    """The decimals that show the width of an interval with two digits; None if unknown."""
    width = abs(high - low)
    largest = max(abs(low), abs(high))
    if width == 0 or not math.isfinite(width) or not 1e-4 <= largest < 1e9:
        return None
    return min(max(1 - math.floor(math.log10(width)), 0), 12)


def _written(value: float, places: int | None, digits: int) -> str:
    return number(value, digits) if places is None else _minus(f"{value:,.{places}f}")


def _in_unit(value: float | None, limits: Sequence[tuple[float, str, float]], digits: int) -> str:
    if value is None:
        return "–"
    unit, scale = next(
        ((unit, scale) for limit, unit, scale in limits if abs(value) < limit), limits[-1][1:]
    )
    return f"{number(float(f'{value / scale:.{digits}g}'), digits)} {unit}"


def _minus(text: str) -> str:
    return text.replace("-", "−")
