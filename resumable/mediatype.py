"""What a media type, a content coding and a file name say about each other: is this a web page, is it stored encoded.

Hints only: nothing here is part of a representation's identity (``validators.py``).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

_PAGES: Final = frozenset({"text/html", "application/xhtml+xml"})
# Suffixes of files that are never a web page. An unlisted one (.php, .com, a version number) says nothing.
_NEVER_PAGES: Final = """
7z aac apk appimage arrow avi avif bin bmp br bz2 cab cbor ckpt csv dat db deb dmg dll dylib egg epub exe
feather flac fp16 gguf ggml gif gz h5 hdf5 ico img iso jar jpeg jpg json jsonl lz4 lzma m4a m4v mkv mov mp3 mp4
msgpack msi nc npy npz o ogg onnx opus parquet pb pdf pickle pkl png pt pth rar rpm safetensors so sqlite
sqlite3 squashfs tar tbz tbz2 tflite tgz tif tiff tsv txz vdi vhd vhdx vmdk vsix wasm wav webm webp wheel whl
wim wmv xls xlsx xpi xz yaml yml zip zst zstd
"""
_FILES: Final = frozenset(_NEVER_PAGES.split())
_GZIP: Final = (".gz", ".tgz", ".svgz")
_SUFFIXES: Final[Mapping[str, tuple[str, ...]]] = {
    "gzip": _GZIP,
    "x-gzip": _GZIP,
    "compress": (".z",),
    "x-compress": (".z",),
    "x-bzip2": (".bz2", ".tbz", ".tbz2"),
    "br": (".br",),
    "zstd": (".zst", ".zstd"),
}


def is_page(media_type: str | None) -> bool:
    """Whether the media type (lower case, without parameters) is that of a web page."""
    return media_type in _PAGES


def may_be_page(filename: str) -> bool:
    """Whether a file of this name may be a web page; False where its suffix is that of a format that never is one."""
    return filename.rpartition(".")[2].lower() not in _FILES if "." in filename else True


def stored_encoded(filename: str, coding: str) -> bool:
    """Whether a file of this name is itself in that coding: ``x.tar.gz`` and gzip.

    Static servers send such files with ``Content-Encoding``, whatever was accepted, and mean the file as it is stored.
    """
    suffixes = _SUFFIXES.get(coding)
    return suffixes is not None and filename.lower().endswith(suffixes)
