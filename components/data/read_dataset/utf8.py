"""Reads text in any encoding as UTF-8, and names the byte that is not in that encoding."""

import codecs
import io

from components.errors import InputError


class Utf8Stream(io.RawIOBase):
    """A text file's bytes as UTF-8, without a byte order mark and with a line end after the last line.

    Args:
        raw: The file's bytes.
        encoding: Their encoding.
        uri: The file's name, for errors.

    Attributes:
        tail: The file's last bytes, as far as they have been read.
    """

    def __init__(self, raw: io.BufferedIOBase, encoding: str, uri: str):
        self.tail = b""
        self._raw, self._encoding, self._uri = raw, encoding, uri
        utf8 = codecs.lookup(encoding).name == "utf-8"
        self._decoder = codecs.getincrementaldecoder("utf-8-sig" if utf8 else encoding)()
        self._position = 0
        self._pending = memoryview(b"")
        self._ended = False

    def readable(self) -> bool:
        """Says yes."""
        return True

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]
        """Fills a buffer with the next bytes.

        Raises:
            InputError: The next bytes are not in the encoding.
        """
        while not self._pending and not self._ended:
            self._fill()
        size = min(len(buffer), len(self._pending))
        buffer[:size] = self._pending[:size]
        self._pending = self._pending[size:]
        return size

    def _fill(self) -> None:
        chunk = self._raw.read(1024 * 1024)
        try:
            data = self._decoder.decode(chunk, final=not chunk).encode()
        except UnicodeDecodeError as error:
            # The decoder's object begins with the bytes that it kept from earlier chunks.
            position = self._position + len(chunk) - len(error.object) + error.start
            byte = error.object[error.start : error.start + 1]
            raise InputError(
                f"{self._uri!r} is not {self._encoding}: byte {position} is {byte!r}.",
                "Give the file's encoding as `encoding`, such as latin-1.",
            ) from error
        self._position += len(chunk)
        self._ended = not chunk
        self.tail = (self.tail + data)[-8:]
        if self._ended and not self.tail.endswith((b"\n", b"\r")) and self.tail:
            # Without it, Arrow takes a file that is only a header for an empty file.
            data += b"\n"
        self._pending = memoryview(data)
