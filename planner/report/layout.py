"""Lines for terminals of any width: wrapped at blanks, columns aligned, no trailing blanks."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import zip_longest
from textwrap import wrap

from planner.report.text import Text

GAP = "  "
NARROWEST = 20      # a flexible column is never made narrower; such a terminal folds lines by itself


def wrapped(text: str, width: int, *, indent: str = "", style: str = "") -> Iterator[Text]:
    """Yield a paragraph as lines; those after the first hang by two more blanks. Long words stay whole.

    What a terminal would act on (nodes' own words may hold anything) becomes blanks.
    """
    printable = "".join(c if c.isprintable() else " " for c in text)
    for line in wrap(" ".join(printable.split()), width, initial_indent=indent, subsequent_indent=indent + "  ",
                     break_long_words=False, break_on_hyphens=False):
        yield Text(line, style=style)


def shortened(names: Iterable[str], most: int) -> str:
    """Return the first names of a list, and how many more there are."""
    listed = list(names)
    more = f" and {len(listed) - most} more" if len(listed) > most else ""
    return ", ".join(listed[:most]) + more


class Columns:
    """Rows in aligned columns, one of which gives way where the terminal is narrow."""

    def __init__(self, rows: Sequence[Sequence[str]], *, width: int, flexible: int, right: Iterable[int] = (),
                 styles: Sequence[str] = (), indent: str = "  ") -> None:
        """Measure all rows that :meth:`lines` will be given.

        Args:
            rows: Cells; every row has as many.
            width: Columns of the terminal.
            flexible: Index of the column whose cells are wrapped.
            right: Indices of columns that are aligned to the right.
            styles: One a column; none by default.
            indent: Stands before every line.
        """
        self._widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        others = sum(w + len(GAP) for i, w in enumerate(self._widths) if i != flexible)
        self._widths[flexible] = min(self._widths[flexible], max(NARROWEST, width - len(indent) - others))
        self._flexible, self._right, self._indent = flexible, frozenset(right), indent
        self._styles = styles or ("",) * len(self._widths)

    def lines(self, row: Sequence[str], *, style: str = "") -> Iterator[Text]:
        """Yield one row; it takes several lines where its flexible cell does."""
        cells = [wrap(cell, self._widths[i], break_long_words=False, break_on_hyphens=False) if i == self._flexible
                 else [cell] for i, cell in enumerate(row)]
        for parts in zip_longest(*cells, fillvalue=""):
            line = Text(self._indent)
            for i, (part, width, own) in enumerate(zip(parts, self._widths, self._styles, strict=True)):
                line.append(part.rjust(width) if i in self._right else part.ljust(width), style=style or own)
                line.append(GAP)
            line.rstrip()
            yield line
