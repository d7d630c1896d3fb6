"""A design as a formula: ``~ drug * time + age``, of columns of the sheet and nothing else."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import combinations

from batchsense.errors import DataError, listed
from batchsense.experiments.tables.columns import Factor, column
from batchsense.experiments.tables.table import Table

_TOKEN = re.compile(r"\s*(`[^`]*`|[^\W\d][\w.]*|\d+|\*\*|%in%|[-+*:/^()~])\s*")
#: Products that a formula may stand for at most. Its expansion is exponential in its operators, and
#: a web server reads formulas of strangers.
_MOST_TERMS = 20_000
_ALLOWED = "columns of the sheet with + - : * / ** and brackets"


@dataclass(frozen=True, slots=True)
class Formula:
    """The terms of a design."""

    columns: tuple[str, ...]  #: Columns of the sheet, each once
    #: Products of these, with all products of fewer that they hold.
    interactions: tuple[tuple[str, ...], ...] = ()
    #: Products (or columns) that the formula lacks, and what a product that it has adds to them. If
    #: these are categories, it says the same as with them; if one is a number, it does not.
    implied: tuple[tuple[tuple[str, ...], tuple[str, ...]], ...] = ()
    constant: bool = True  #: False where the formula takes the constant out

    def check(self, factors: Iterable[Factor], where: str) -> None:
        """Refuse what would make a slope or the constant go through zero."""
        kinds = {one.name: one.kind for one in factors}
        for term, more in self.implied:
            if numbers := [name for name in more if kinds[name] == "numeric"]:
                raise DataError(
                    f"the design holds {':'.join((*term, *more))} without {':'.join(term)}, so "
                    f"all lines would meet where {numbers[0]} is 0; write "
                    f"{' * '.join((*term, *more))}",
                    where=where,
                )
        if not self.constant and "categorical" not in kinds.values():
            raise DataError(
                "the design leaves out the constant, so all lines would go through 0; leave out "
                "the 0 (or - 1)",
                where=where,
            )


def read_formula(text: str, table: Table) -> Formula:
    """Read a formula; nothing in it is ever evaluated.

    Names are exchanged for harmless ones before the formula is expanded (by formulaic), so that no
    function, and no text in quotes, can be in it.
    """
    where = table.source.sheet
    names: list[str] = []
    plain = _exchanged(text, table, names)
    if not names:
        raise DataError(f"the design {text!r} names no column", where=where)
    products = sum(plain.count(sign) for sign in (":", "/", "%in%"))
    products += plain.count("*") - plain.count("**") + plain.count("^")  # "**" was counted twice
    powers = [int(one) for one in re.findall(r"(?:\*\*|\^)\s*(\d{1,2})", plain)]
    if max(2, len(names)) ** max(1, products + sum(powers)) > _MOST_TERMS and products:
        raise DataError(
            f"the design {text!r} may stand for more than {_MOST_TERMS:,} terms; write the "
            "products that are meant",
            where=where,
        )
    terms, constant = _expanded(plain, text, names, where)
    given = {frozenset(term) for term in terms}
    implied: dict[tuple[str, ...], tuple[str, ...]] = {}
    every = dict.fromkeys(terms)
    for term in sorted(terms, key=len, reverse=True):
        for size in range(len(term) - 1, 0, -1):
            for margin in combinations(term, size):
                if frozenset(margin) not in given:
                    given.add(frozenset(margin))
                    every[margin] = None
                    implied[margin] = tuple(one for one in term if one not in margin)
    columns = tuple(dict.fromkeys(name for term in every if len(term) == 1 for name in term))
    crossed = sorted((term for term in every if len(term) > 1), key=len)
    order = {name: place for place, name in enumerate(columns)}
    interactions = tuple(tuple(sorted(term, key=order.__getitem__)) for term in crossed)
    return Formula(columns, interactions, tuple(implied.items()), constant)


def crossed_with_margins(columns: Iterable[str]) -> tuple[tuple[str, ...], ...]:
    """All products of two or more columns."""
    names = tuple(columns)
    return tuple(term for size in range(2, len(names) + 1) for term in combinations(names, size))


def _exchanged(text: str, table: Table, names: list[str]) -> str:
    """The formula with c0_, c1_, ... for its columns, which are added to ``names``."""
    where, parts, place = table.source.sheet, [], 0
    while place < len(text.rstrip()):
        token = _TOKEN.match(text, place)
        if token is None:
            raise DataError(
                f"the design {text!r} cannot be read from {text[place:][:20]!r} on; a design holds "
                f"{_ALLOWED}; names with blanks or signs are put in `backticks`",
                where=where,
            )
        word, place = token[1], token.end()
        if word[0] == "`" or (word[0].isalpha() or word[0] == "_"):
            name = word.strip("`")
            if text[place : place + 1] == "(":
                raise DataError(
                    f"the design {text!r} calls {name}(); a design holds {_ALLOWED}. Make a column "
                    "of what the function gives; categories are declared by --categorical",
                    where=where,
                )
            column(table.sheet, name, where)
            if name not in names:
                names.append(name)
            word = f"c{names.index(name)}_"
        parts.append(word)
    plain = " ".join(parts)
    if "~" in plain.removeprefix("~"):
        raise DataError(
            f"the design {text!r} has a left side; every feature is fitted, so write ~ and then "
            f"{_ALLOWED}",
            where=where,
        )
    return plain


def _expanded(
    plain: str, text: str, names: list[str], where: str
) -> tuple[list[tuple[str, ...]], bool]:
    from formulaic.errors import FormulaicError
    from formulaic.parser import DefaultFormulaParser

    try:
        found = DefaultFormulaParser().get_terms("~ " + plain.removeprefix("~"))
        factors = [[factor.expr for factor in term.factors] for term in found.root]
        by_name = {f"c{place}_": name for place, name in enumerate(names)}
        terms = [tuple(by_name[one] for one in term) for term in factors if term != ["1"]]
    except (FormulaicError, SyntaxError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise DataError(
            f"the design {text!r} is no formula; a design holds {_ALLOWED}", where=where
        ) from error
    if not terms:
        raise DataError(f"the design {text!r} leaves no column: {listed(names)}", where=where)
    return [tuple(dict.fromkeys(term)) for term in terms], ["1"] in factors
