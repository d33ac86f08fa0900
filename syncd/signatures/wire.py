"""Reads SSH's binary format: strings with their length before them, and big-endian numbers.

Source: RFC 4251, section 5. Every read is bounded by the data; nothing may be left over.
"""

from __future__ import annotations


class WireError(ValueError):
    """The bytes are not what the format asks for."""


class Reader:
    """Reads one value after the other from the start of the data."""

    def __init__(self, data: bytes) -> None:
        self._data, self.position = data, 0

    def take(self, count: int) -> bytes:
        """Return the next `count` bytes. Raises WireError where there are fewer."""
        found = self._data[self.position : self.position + count]
        if len(found) != count:
            raise WireError("it is cut off")
        self.position += count
        return found

    def number(self, bytes_long: int) -> int:
        """Return the next unsigned number of this many bytes."""
        return int.from_bytes(self.take(bytes_long), "big")

    def string(self) -> bytes:
        """Return the next string of bytes."""
        return self.take(self.number(4))

    def text(self) -> str:
        """Return the next string, which has to be UTF-8."""
        try:
            return self.string().decode()
        except UnicodeDecodeError as error:
            raise WireError("a text in it is not UTF-8") from error

    def positive(self) -> int:
        """Return the next `mpint`, which has to be greater than zero."""
        raw = self.string()
        if not raw or raw[0] & 0x80 or not any(raw):
            raise WireError("a number in it is not positive")
        return int.from_bytes(raw, "big")

    def skip_strings(self, count: int) -> bytes:
        """Return the next `count` strings as they are encoded."""
        start = self.position
        for _ in range(count):
            self.string()
        return self._data[start : self.position]

    def read_so_far(self) -> bytes:
        """Return everything before the present position."""
        return self._data[: self.position]

    def strings(self) -> list[bytes]:
        """Return all strings up to the end."""
        found = []
        while self.position < len(self._data):
            found.append(self.string())
        return found

    def end(self) -> None:
        """Raise WireError if anything is left."""
        if self.position != len(self._data):
            raise WireError("there is more after its end")


def pack(value: bytes) -> bytes:
    """Return the value as a string of the format."""
    return len(value).to_bytes(4, "big") + value
