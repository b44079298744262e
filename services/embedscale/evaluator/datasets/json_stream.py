"""Reads one large JSON document a value at a time.

The libraries for this turn half of a surrogate pair into "?"; here the standard library's decoder reads each value, so
that what is wrong is seen, with its line.
"""

import codecs
import json
import re
from collections.abc import Iterator
from json.decoder import JSONDecodeError, JSONDecoder
from typing import Any, BinaryIO

_BLOCK = 2**20
_MOST_CHARACTERS = 2**26
_SPACE = " \t\r\n"
_NUMBER = re.compile(r"[-+.eE\d]*")


class BadJson(ValueError):
    """The text is not JSON; the message says where."""


def why_not_json(error: ValueError | RecursionError) -> str:
    """What the standard library's decoder found wrong."""
    if isinstance(error, JSONDecodeError):
        return error.msg
    return "nested too deeply" if isinstance(error, RecursionError) else "a number has too many digits"


class JsonStream:
    """A cursor in a JSON document: before a value, call one of `value`, `members` and `items` to read past it."""

    def __init__(self, file: BinaryIO) -> None:
        start = file.read(4)
        self._file = file
        self._decoder = codecs.getincrementaldecoder(json.detect_encoding(start))()
        self._json = JSONDecoder()
        self._line = 1
        self._at = 0
        self._ended = False
        self._text = ""
        self._append(start)

    def peek(self) -> str:
        """Next character that is no space; empty at the end."""
        while True:
            while self._at < len(self._text) and self._text[self._at] in _SPACE:
                self._at += 1
            if self._at < len(self._text):
                return self._text[self._at]
            if not self._read_on():
                return ""

    def value(self) -> Any:
        """Read a whole value. Raises BadJson."""
        self.peek()
        while True:
            try:
                value, end = self._json.raw_decode(self._text, self._at)
            except JSONDecodeError as error:
                if not self._read_on():
                    raise self._wrong(error.msg, error.pos) from None
            except (ValueError, RecursionError) as error:
                raise self._wrong(why_not_json(error), self._at) from None
            else:
                if not self._may_go_on() or not self._read_on():
                    self._at = end
                    return value

    def members(self) -> Iterator[str]:
        """Yield each key of an object; the caller reads the value before the next. Raises BadJson."""
        self._expect("{")
        if self._found("}"):
            return
        while True:
            if self.peek() != '"':
                raise self._wrong("a key should be here", self._at)
            key = self.value()
            self._expect(":")
            yield key
            if self._found("}"):
                return
            self._expect(",")

    def items(self) -> Iterator[int]:
        """Yield the number of each item of an array; the caller reads it before the next. Raises BadJson."""
        self._expect("[")
        if self._found("]"):
            return
        number = 0
        while True:
            yield number
            number += 1
            if self._found("]"):
                return
            self._expect(",")

    def finish(self) -> None:
        """Make sure that nothing follows. Raises BadJson."""
        if self.peek():
            raise self._wrong("more follows the end", self._at)

    def _may_go_on(self) -> bool:
        """Whether the value is a number that the end of what was read may have cut, such as 1 or 1. of 1.5."""
        return _NUMBER.match(self._text, self._at).end() == len(self._text)  # type: ignore[union-attr] # may be empty

    def _found(self, character: str) -> bool:
        found = self.peek() == character
        self._at += found
        return found

    def _expect(self, character: str) -> None:
        if not self._found(character):
            raise self._wrong(f"{character} should be here", self._at)

    def _read_on(self) -> bool:
        """Drop what was used and read as much again as is left of it; False at the end of the file."""
        if self._ended:
            return False
        self._line += self._text.count("\n", 0, self._at)
        self._text, self._at = self._text[self._at :], 0
        if len(self._text) > _MOST_CHARACTERS:
            raise self._wrong(f"a value has more than {_MOST_CHARACTERS} characters", 0)
        self._append(self._file.read(max(_BLOCK, len(self._text))))
        return True

    def _append(self, block: bytes) -> None:
        self._ended = not block
        try:
            self._text += self._decoder.decode(block, self._ended)
        except UnicodeDecodeError as error:
            raise self._wrong(f"bad {error.encoding} after this", len(self._text)) from None

    def _wrong(self, message: str, position: int) -> BadJson:
        return BadJson(f"line {self._line + self._text.count(chr(10), 0, position)}: {message}")
