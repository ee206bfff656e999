"""A line of text with styles. Where nothing has a style (a file, a pipe) rich is not even read."""

from __future__ import annotations

from typing import Any


class Text:
    """One line, written from left to right; rich prints it as its own."""

    __slots__ = ("_parts", "_style")

    def __init__(self, text: str = "", *, style: str = "") -> None:
        """Begin a line.

        Args:
            text: Its first part.
            style: Of the whole line, in rich's words (``bold``, ``dim``, ``yellow`` …).
        """
        self._parts = [(text, "")] if text else []
        self._style = style

    @property
    def plain(self) -> str:
        """The line without its styles."""
        return "".join(text for text, _ in self._parts)

    def __str__(self) -> str:
        return self.plain

    def append(self, text: str, style: str = "") -> None:
        """Add a part with a style of its own."""
        self._parts.append((text, style))

    def rstrip(self) -> None:
        """Take the blanks at the end away."""
        while self._parts:
            text, style = self._parts.pop()
            if kept := text.rstrip():
                self._parts.append((kept, style))
                return

    def __rich__(self) -> Any:
        from rich.text import Text as RichText

        line = RichText(style=self._style)
        for text, style in self._parts:
            line.append(text, style=style)
        return line
