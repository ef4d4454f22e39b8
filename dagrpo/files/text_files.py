"""Text and rows of files from outside: decoded and checked in one place."""

import gzip
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from dagrpo.errors import UserError


def read_text(path: Path, remedy: str) -> str:
    """Read a UTF-8 file, unpacked where its name ends in ``.gz``; a byte-order mark is dropped.

    Raises:
        UserError: it cannot be read or unpacked, or is not UTF-8; ``remedy`` says what to do.
    """
    try:
        data = path.read_bytes()
        return text_of(gzip.decompress(data) if path.suffix == ".gz" else data)
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror or error}); {remedy}") from None
    except EOFError as error:
        raise UserError(f"{path}: cannot be read ({error}); {remedy}") from None
    except UnicodeDecodeError:
        raise UserError(f"{path}: not UTF-8 text; write it in UTF-8, or {remedy}") from None


def text_of(data: bytes) -> str:
    """Decode UTF-8 without its byte-order mark."""
    return data.decode("utf-8-sig")


def read_json(path: Path, remedy: str) -> dict[str, Any]:
    """Read a file that holds one JSON object. Raises :class:`UserError`; ``remedy`` says what to do."""
    return read_object(read_text(path, remedy), str(path), remedy)


def read_rows(path: Path, remedy: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Read JSON Lines one by one: file and line in words, and the row. Empty lines are passed.

    Raises:
        UserError: the file cannot be read or is not UTF-8, or a line is no sound object; ``remedy`` says what to do.
    """
    number = 0
    try:
        with path.open(encoding="utf-8-sig") as stream:
            for number, line in enumerate(stream, start=1):
                if line.strip():
                    where = f"{path}, line {number}"
                    yield where, read_object(line, where, remedy)
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror or error}); {remedy}") from None
    except UnicodeDecodeError:
        raise UserError(f"{path}: not UTF-8 text after line {number}; {remedy}") from None


def read_object(line: str, where: str, remedy: str = "repair or delete the line") -> dict[str, Any]:
    """Read one line of JSON Lines, or the text of a file of JSON.

    Raises:
        UserError: it is no JSON, no object, or holds half a character (a lone surrogate, such as ``\\ud83d`` alone),
            which no tokenizer and no file could take; ``remedy`` says what to do.
    """
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        said = f"{error.msg}, column {error.colno}" if isinstance(error, json.JSONDecodeError) else str(error)
        raise UserError(f"{where}: not valid JSON ({said}); {remedy}") from None
    if not isinstance(row, dict):
        raise UserError(f"{where}: expected a JSON object, found {type(row).__name__}; {remedy}")
    if "\\u" in line:  # text that was decoded as UTF-8 holds none but by an escape
        check_whole(row, where)
    return row


def check_whole(value: Any, where: str) -> None:
    """Raise :class:`UserError` where a text in ``value`` holds half a character."""
    try:
        json.dumps(value, ensure_ascii=False, default=str).encode()
    except UnicodeEncodeError as error:
        half = ascii(error.object[error.start])[1:-1]
        raise UserError(f"{where}: holds half a character ({half}); write it whole or delete it") from None
