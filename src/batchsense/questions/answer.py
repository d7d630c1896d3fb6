"""What a question gives back: the document, its text, its page, and files that were asked for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from batchsense.reports.envelope import Envelope, Model

ResultT = TypeVar("ResultT", bound="Model")
#: Lays out a header and rows for where the text goes.
Tabulate = Callable[[Sequence[str], Sequence[Sequence[str]]], str]


@dataclass(frozen=True, slots=True)
class Product:
    """A file beside the document."""

    field: str  #: The field of the request that says where it goes
    name: str  #: What it is, for the line that says that it was written
    write: Callable[[Path], None]  #: Writes it to a path, in one piece or not at all
    text: Callable[[], str] | None = None  #: Gives it as text for stdout, where the path is ``-``
    by_default: str | None = None  #: Where it goes if nothing was said, and nothing stands there
    #: Whether a line says that it was written; else the answer in words does.
    announced: bool = False


@dataclass(frozen=True, slots=True)
class Answer(Generic[ResultT]):
    """The answer to a request."""

    envelope: Envelope[ResultT]  #: The document that ``--json`` prints
    text: Callable[[Tabulate], str]  #: Takes what lays out tables, gives the answer in words
    #: Gives the self-contained page; without it the page shows the text.
    page: Callable[[], str] | None = None
    products: tuple[Product, ...] = ()  #: Files that the request asks for
    no: bool = False  #: Whether the answer is no (exit code 1)
    #: The answer in one line, where it is neither the verdict nor the first paragraph.
    brief: Callable[[], str] | None = None
    #: Whether this process tells it: of several that calculate together, one does.
    told: bool = True

    def html(self, command_line: str) -> str:
        """The self-contained page of the answer, with the words that ask for it again."""
        if self.page is not None:
            return self.page()
        from batchsense.reports.columns import columns
        from batchsense.reports.page import plain_page

        return plain_page(self.envelope, self.text(columns), command_line)


def document_product(envelope: Envelope[ResultT], name: str) -> Product:
    """The ``--json`` document as the file that ``--output`` asks for."""
    from batchsense.storage.atomic import write_text

    def write(path: Path) -> None:
        write_text(path, envelope.to_json() + "\n")

    return Product("output", name, write, envelope.to_json, announced=True)
