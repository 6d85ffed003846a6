"""Large archives from the network: fetched so that a stop costs little, checked, and only then unpacked.

Nothing is read before its checksum fits, and nothing lies under its final name before it is whole.
"""
from __future__ import annotations

import os
import shutil
import tarfile
import zlib
from dataclasses import dataclass
from pathlib import Path

import pooch
from filelock import FileLock

from paperlib.progress import Bar


class DataError(RuntimeError):
    """A data set is unknown, missing or damaged; the sentence says which, where and what to do."""


@dataclass(frozen=True)
class Archive:
    """A tar archive of a data set: where it comes from, how it is checked, and the folder that it holds."""

    title: str
    url: str
    md5: str
    folder: str
    bytes: int = 0  # 0: not known

    @property
    def name(self) -> str:
        return self.url.rsplit("/", 1)[1]


def obtain(archive: Archive, root: Path) -> Path:
    """The folder of `archive` under `root`: as it lies there, or else fetched, checked and unpacked.

    A second process that wants the same waits for the first. Raises DataError, in one sentence.
    """
    folder = root / archive.folder
    if folder.is_dir():
        return folder
    try:
        with FileLock(root / f".{archive.name}.lock"):
            if not folder.is_dir():
                unpack(fetch(archive, root), archive.folder, folder)
    except OSError as error:  # of the lock: what fetching and unpacking may meet has its own sentence
        raise DataError(f"{archive.title} is not in {folder} and {root} cannot be written ({reason(error)}); give "
                        f"another folder as data_root.") from error
    return folder


def fetch(archive: Archive, root: Path) -> Path:
    """The checked archive in `root`, downloaded where it is not there; a download that was stopped is resumed."""
    path, part = root / archive.name, root / f"{archive.name}.part"
    if path.is_file():
        if wrong := mismatch(path, archive):
            raise DataError(f"{wrong}: it is damaged, cut short or another file; delete it and run again to fetch it.")
        return path
    _download(archive, part, root)
    if wrong := mismatch(part, archive):
        part.unlink()  # else the next try would go on from it
        raise DataError(f"{wrong}: what {archive.url} sent was damaged and is deleted; run again to fetch it.")
    os.replace(part, path)
    return path


def mismatch(path: Path, archive: Archive) -> str:
    """Words for how the file's length or md5 differs from the archive's; "" where it does not."""
    size = path.stat().st_size
    if archive.bytes and size != archive.bytes:
        return f"{path} has {size:,} bytes instead of {archive.bytes:,}"
    found = pooch.file_hash(str(path), alg="md5")
    return "" if found == archive.md5 else f"{path} has the checksum {found} instead of {archive.md5}"


def _download(archive: Archive, part: Path, root: Path) -> None:
    """Append to `part` what it lacks."""
    done = part.stat().st_size if part.exists() else 0
    if archive.bytes and done >= archive.bytes:
        return
    # As it is: a server that packs the answer once more would not count the archive's own bytes.
    headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={done}-"} if done else {})
    try:
        with open(part, "ab") as file:
            def begin(response, **_):
                if response.status_code == 200:  # the server sends all of it, not only the rest
                    file.truncate(0)
            # A break loses no more than the chunk that was under way.
            pooch.HTTPDownloader(progressbar=True, chunk_size=2**16, headers=headers, hooks={"response": begin},
                                 timeout=60)(archive.url, file, None)
        if part.stat().st_size < archive.bytes:
            raise OSError("the connection ended early")
    except OSError as error:
        if _status(error) != 416:  # 416: there is no byte after `done`; the checksum decides
            raise DataError(_not_fetched(archive, part, root, error)) from error


def _not_fetched(archive: Archive, part: Path, root: Path, error: OSError) -> str:
    kept = part.stat().st_size if part.exists() else 0
    if not kept:
        part.unlink(missing_ok=True)
    hint = (f"the first {kept:,} bytes are kept, run again to go on" if kept else
            f"put {archive.name} into {root}, or give the folder that holds {archive.folder} as data_root")
    return (f"{archive.title} is not in {root / archive.folder} and could not be downloaded from {archive.url} "
            f"({reason(error)}); {hint}.")


def _status(error: OSError) -> int:
    return getattr(getattr(error, "response", None), "status_code", 0)


def reason(error: OSError) -> str:
    """A few words on what went wrong; the network's own errors quote half of their inside."""
    if _status(error):
        return f"the server says {_status(error)}"
    if type(error).__module__.startswith("requests"):
        return {"ConnectionError": "no connection", "ReadTimeout": "no answer"}.get(
            type(error).__name__, "the connection broke off")
    return error.strerror or str(error)


def unpack(path: Path, inside: str, target: Path) -> None:
    """Unpack the archive's folder `inside` as `target`: whole, or not there at all. The archive stays.

    Raises DataError for a member that would land outside, for a damaged archive and for a full disk.
    """
    scratch = target.with_name(f".{target.name}.unpacking")
    shutil.rmtree(scratch, ignore_errors=True)  # of a run that was killed
    try:
        with tarfile.open(path) as tar:
            for member in Bar(tar, desc=f"unpacking {path.name}", unit=" files"):
                tar.extract(member, scratch, filter="data")
        if not (scratch / inside).is_dir():
            raise DataError(f"{path} holds no folder {inside}; delete it and run again to fetch it.")
        os.replace(scratch / inside, target)
    except tarfile.FilterError as error:
        raise DataError(f"{path} is not safe: its member {error.tarinfo.name!r} would land outside of the folder, or "
                        f"is neither file nor folder; do not use this archive.") from error
    except (tarfile.TarError, EOFError, zlib.error) as error:
        raise DataError(f"{path} is cut short or damaged; delete it and run again to fetch it.") from error
    except OSError as error:
        raise DataError(f"{path} could not be unpacked into {target} ({reason(error)}); the archive is kept, run again "
                        f"when that is mended.") from error
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
