"""The fields of a request: what each accepts, and how they are checked."""

import io
import re
from collections.abc import AsyncIterable, Iterable, Mapping, Sequence
from typing import IO, Final, TypeAlias

from ..errors import ConfigurationError
from .body import FieldTypes

FileContent: TypeAlias = bytes | str | IO[bytes]
FileTypes: TypeAlias = FileContent | tuple[str | None, FileContent] | tuple[str | None, FileContent, str | None]
"""One upload: its content, or `(filename, content)`, or `(filename, content, content type)`."""

FilesTypes: TypeAlias = Mapping[str, FileTypes] | Sequence[tuple[str, FileTypes]]
ContentTypes: TypeAlias = bytes | str | IO[bytes] | IO[str] | Iterable[bytes] | AsyncIterable[bytes]

REQUEST_KEYS: Final = frozenset(
    {
        "path",
        "url",
        "method",
        "params",
        "headers",
        "json",
        "form",
        "files",
        "content",
        "json_data",
        "form_data",
    }
)
"""The keys of a request that is given as a mapping."""

_COMMON_METHODS: Final = frozenset({"GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"})
_is_token: Final = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+").fullmatch


def wrong_type(name: str, value: object, right: str) -> ConfigurationError:
    """The error for a value of the wrong type: it names the field, the type given and what is right."""
    return ConfigurationError(f"{name}: expected {right}, got {type(value).__name__}")


def checked_method(method: object) -> str:
    """Return a method in upper case."""
    if not isinstance(method, str):
        raise wrong_type("method", method, "text such as 'GET'")
    if method in _COMMON_METHODS:
        return method
    if not _is_token(method):
        raise ConfigurationError(f"method: {method!r} is not an HTTP method; give one such as 'GET'")
    return method.upper()


def checked_fields(name: str, fields: FieldTypes) -> FieldTypes:
    """Return query parameters or a form, if they look like it."""
    if not isinstance(fields, Mapping | list | tuple):
        raise wrong_type(name, fields, "a mapping of names to values, or pairs")
    return fields


def checked_content(content: ContentTypes) -> ContentTypes:
    """Return a body, if it is one."""
    if isinstance(content, bytes | str):
        return content
    if isinstance(content, bytearray | memoryview):
        return bytes(content)
    if isinstance(content, Mapping) or not (hasattr(content, "read") or isinstance(content, Iterable | AsyncIterable)):
        raise wrong_type("content", content, "bytes, text, a file or an iterable of bytes (json= sends a value)")
    if hasattr(content, "read"):
        _check_file("content", content)
    return content


def checked_files(files: FilesTypes) -> FilesTypes | None:
    """Return uploads, if all of them are; None if there are none."""
    if not isinstance(files, Mapping | list | tuple):
        raise wrong_type("files", files, "a mapping of field names to uploads, or pairs")
    for item in files.items() if isinstance(files, Mapping) else files:
        if not (isinstance(item, tuple | list) and len(item) == 2 and isinstance(item[0], str)):
            raise wrong_type("files", item, "pairs (field name, upload)")
        name, upload = item
        where = f"files.{name}" if name.isidentifier() else f"files[{name!r}]"
        content: object = upload
        if isinstance(upload, tuple | list):
            if len(upload) not in (2, 3):
                raise ConfigurationError(f"{where}: expected (filename, content) or (filename, content, type)")
            if not all(isinstance(text, str | None) for text in (upload[0], *upload[2:])):
                raise ConfigurationError(f"{where}: the filename and the content type must be text")
            content = upload[1]
        if isinstance(content, io.TextIOBase):
            raise ConfigurationError(f"{where}: the file is open in text mode; open it in binary mode ('rb')")
        if not isinstance(content, bytes | str):
            if not hasattr(content, "read"):
                raise wrong_type(where, content, "bytes, text or a binary file")
            _check_file(where, content)
    return files or None


def _check_file(where: str, file: object) -> None:
    """Refuse what looks like a file and cannot be read as one."""
    from inspect import iscoroutinefunction  # costs an import that few requests need

    kind = type(file).__name__
    if iscoroutinefunction(getattr(file, "read", None)):
        raise ConfigurationError(f"{where}: {kind} has to be awaited to be read; give a file from the built-in open()")
    if getattr(file, "closed", False) is True:
        raise ConfigurationError(f"{where}: the {kind} is closed; keep it open until the request has ended")
    readable = getattr(file, "readable", None)
    if readable is not None and not readable():
        raise ConfigurationError(f"{where}: the {kind} is not open for reading; open it with 'rb'")


def upload_contents(files: FilesTypes | None) -> Iterable[object]:
    """The contents of all uploads, without their names and types."""
    if not files:
        return ()
    uploads = files.values() if isinstance(files, Mapping) else (upload for _, upload in files)
    return (upload[1] if isinstance(upload, tuple | list) else upload for upload in uploads)


def is_repeatable(content: object) -> bool:
    """Whether a content can be read a second time."""
    if content is None or isinstance(content, bytes | str):
        return True
    if hasattr(content, "read"):
        seekable = getattr(content, "seekable", None)
        return bool(seekable()) if seekable is not None else hasattr(content, "seek")
    return not (hasattr(content, "__next__") or hasattr(content, "__anext__"))
