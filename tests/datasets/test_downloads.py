"""Archives: fetched from a server on this machine, gone on from, checked before they are read, unpacked whole."""
from __future__ import annotations

import errno
import hashlib
import io
import tarfile
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from paperlib.datasets.downloads import Archive, DataError, fetch, obtain, unpack


def tar(members: dict[str, bytes | None], links: dict[str, str] | None = None) -> bytes:
    """A .tgz of files (or folders, for None) and symbolic links."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size, info.type = (0, tarfile.DIRTYPE) if content is None else (len(content), tarfile.REGTYPE)
            archive.addfile(info, None if content is None else io.BytesIO(content))
        for name, target in (links or {}).items():
            info = tarfile.TarInfo(name)
            info.type, info.linkname = tarfile.SYMTYPE, target
            archive.addfile(info)
    return buffer.getvalue()


NOISE = b"".join(hashlib.sha256(bytes([i % 256, i // 256])).digest() for i in range(10_000))  # does not pack
WHOLE = tar({"set": None, "set/a.txt": b"first", "set/in/b.bin": NOISE, "beside.txt": b"not of the set"})


class Handler(BaseHTTPRequestHandler):
    """Serves `server.content`; knows Range where `server.ranges`, and sends only `server.cut` bytes where it is set."""

    def do_GET(self):
        server, header = self.server, self.headers.get("Range")
        server.asked.append(header)
        start = int(header.removeprefix("bytes=").rstrip("-")) if header and server.ranges else 0
        if server.status or (header and server.ranges and start >= len(server.content)):
            return self.send_error(server.status or 416)
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(server.content) - start))
        self.end_headers()
        self.wfile.write(server.content[start:start + server.cut if server.cut else None])

    def log_message(self, *_):
        pass


@pytest.fixture
def server():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.content, server.ranges, server.cut, server.status, server.asked = WHOLE, True, 0, 0, []
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def archive(server):
    return Archive("The set", f"http://127.0.0.1:{server.server_port}/set.tgz", hashlib.md5(WHOLE).hexdigest(), "set",
                   len(WHOLE))


def left(folder) -> list[str]:
    return sorted(p.name for p in folder.iterdir() if not p.name.endswith(".lock"))


# Fetching

def test_fetched_checked_unpacked_once(archive, server, tmp_path):
    folder = obtain(archive, tmp_path)
    assert folder == tmp_path / "set" and (folder / "a.txt").read_bytes() == b"first"
    assert (folder / "in" / "b.bin").read_bytes() == NOISE
    assert left(tmp_path) == ["set", "set.tgz"] and server.asked == [None]
    (folder / "a.txt").write_text("mine")
    assert obtain(archive, tmp_path) == folder and (folder / "a.txt").read_text() == "mine", "what is there stays"
    assert server.asked == [None]


def test_archive_that_was_put_there_needs_no_network(archive, server, tmp_path):
    (tmp_path / "set.tgz").write_bytes(WHOLE)
    assert (obtain(archive, tmp_path) / "a.txt").is_file() and not server.asked


@pytest.mark.parametrize("ranges", [True, False], ids=["goes on", "server sends all again"])
def test_download_that_was_cut_short(archive, server, tmp_path, ranges):
    server.cut, server.ranges = 200_000, ranges
    with pytest.raises(DataError, match=r"could not be downloaded from .*\(.*\); the first [0-9,]+ bytes are kept, run "
                                        r"again to go on"):
        obtain(archive, tmp_path)
    assert left(tmp_path) == ["set.tgz.part"]
    kept = (tmp_path / "set.tgz.part").stat().st_size
    assert 0 < kept <= 200_000 and (tmp_path / "set.tgz.part").read_bytes() == WHOLE[:kept]
    server.cut = 0
    assert (obtain(archive, tmp_path) / "a.txt").is_file()
    assert server.asked == [None, f"bytes={kept}-"] and (tmp_path / "set.tgz").read_bytes() == WHOLE


@pytest.mark.parametrize("known", [True, False], ids=["length known", "length not known"])
def test_partial_file_that_is_whole_already(archive, server, tmp_path, known):
    (tmp_path / "set.tgz.part").write_bytes(WHOLE)
    archive = archive if known else Archive(archive.title, archive.url, archive.md5, archive.folder)
    fetch(archive, tmp_path)
    assert left(tmp_path) == ["set.tgz"] and server.asked == ([] if known else [f"bytes={len(WHOLE)}-"])


def test_wrong_checksum_is_never_unpacked(archive, server, tmp_path):
    server.content = WHOLE[:-1] + b"?"
    with pytest.raises(DataError, match=r"set.tgz.part has the checksum [0-9a-f]{32} instead of [0-9a-f]{32}: what "
                                        r"http.* sent was damaged and is deleted; run again"):
        obtain(archive, tmp_path)
    assert left(tmp_path) == []


@pytest.mark.parametrize("content, wrong", [(WHOLE[:1000], "has 1,000 bytes instead of 3"),
                                            (WHOLE[:-1] + b"?", "has the checksum")], ids=["truncated", "damaged"])
def test_own_archive_that_does_not_fit_is_named_and_stays(archive, server, tmp_path, content, wrong):
    (tmp_path / "set.tgz").write_bytes(content)
    with pytest.raises(DataError, match=f"set.tgz {wrong}.*: it is damaged, cut short or another file; delete it"):
        obtain(archive, tmp_path)
    assert (tmp_path / "set.tgz").read_bytes() == content and left(tmp_path) == ["set.tgz"] and not server.asked


def test_server_that_does_not_have_it(archive, server, tmp_path):
    server.status = 404
    with pytest.raises(DataError, match=r"\(the server says 404\); put set.tgz into .*, or give the folder that holds"):
        obtain(archive, tmp_path)
    assert left(tmp_path) == []


def test_no_network(tmp_path):
    archive = Archive("The set", "http://127.0.0.1:9/set.tgz", "0" * 32, "set")
    with pytest.raises(DataError, match=r"^The set is not in .*set and could not be downloaded from http://127.* \(no "
                                        r"connection\); put set.tgz into"):
        obtain(archive, tmp_path)
    assert left(tmp_path) == []


def test_folder_that_cannot_be_written(archive, tmp_path):
    (tmp_path / ".set.tgz.lock").mkdir()  # also where the tests' user may write everywhere
    with pytest.raises(DataError, match="The set is not in .* cannot be written .*; give another folder as data_root"):
        obtain(archive, tmp_path)


def test_two_at_once_fetch_once(archive, server, tmp_path):
    found = []
    threads = [threading.Thread(target=lambda: found.append(obtain(archive, tmp_path))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [tmp_path / "set"] * 3 and server.asked == [None]


# Unpacking

@pytest.fixture
def packed(tmp_path):
    """Writes an archive and gives its path and the folder that it is to become."""
    def write(content: bytes):
        (tmp_path / "in").mkdir()
        (tmp_path / "in" / "set.tgz").write_bytes(content)
        return tmp_path / "in" / "set.tgz", tmp_path / "in" / "set"
    return write


def pipe() -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        info = tarfile.TarInfo("set/pipe")
        info.type = tarfile.FIFOTYPE
        archive.addfile(info)
    return buffer.getvalue()


@pytest.mark.parametrize("content", [
    tar({"set/../../escaped": b"x"}), tar({"../escaped": b"x"}), tar({"set/a": b""}, {"set/link": "/etc"}),
    tar({"set/a": b""}, {"set/link": "../../escaped"}), pipe()],
    ids=["parent inside", "parent", "absolute link", "parent link", "pipe"])
def test_member_that_would_land_outside_or_is_no_file(packed, tmp_path, content):
    path, target = packed(content)
    with pytest.raises(DataError, match=r"not safe: its member '.*' would land outside of the folder, or is neither"):
        unpack(path, "set", target)
    assert left(tmp_path / "in") == ["set.tgz"] and left(tmp_path) == ["in"]


def test_member_with_an_absolute_name_stays_inside(packed, tmp_path):
    path, target = packed(tar({"set/a": b"", f"{tmp_path}/escaped": b"x"}))
    unpack(path, "set", target)
    assert left(tmp_path / "in") == ["set", "set.tgz"] and left(tmp_path) == ["in"]


@pytest.mark.parametrize("content", [WHOLE[:len(WHOLE) // 2], b"no archive", b""],
                         ids=["half", "text", "empty"])
def test_truncated_archive(packed, tmp_path, content):
    path, target = packed(content)
    with pytest.raises(DataError, match="set.tgz is cut short or damaged; delete it and run again to fetch it"):
        unpack(path, "set", target)
    assert left(tmp_path / "in") == ["set.tgz"]


def test_archive_of_something_else(packed):
    path, target = packed(tar({"other/a": b"x"}))
    with pytest.raises(DataError, match="set.tgz holds no folder set"):
        unpack(path, "set", target)
    assert not target.exists()


@pytest.mark.parametrize("error, raised", [(OSError(errno.ENOSPC, "No space left on device"), DataError),
                                           (KeyboardInterrupt(), KeyboardInterrupt)], ids=["full disk", "Ctrl-C"])
def test_stop_while_unpacking_leaves_only_the_archive(archive, server, tmp_path, monkeypatch, error, raised):
    copy = tarfile.copyfileobj

    def stop(source, target, *args, **kwargs):
        copy(source, target, 3)  # some bytes are written first
        raise error
    with monkeypatch.context() as patch:
        patch.setattr(tarfile, "copyfileobj", stop)
        with pytest.raises(raised) as caught:
            obtain(archive, tmp_path)
    if raised is DataError:
        assert "could not be unpacked into" in str(caught.value)
        assert "(No space left on device); the archive is kept, run again" in str(caught.value)
    assert left(tmp_path) == ["set.tgz"]
    assert (obtain(archive, tmp_path) / "in" / "b.bin").read_bytes() == NOISE and server.asked == [None]


def test_what_a_killed_run_left_is_no_obstacle(archive, tmp_path, server):
    (tmp_path / ".set.unpacking" / "set").mkdir(parents=True)
    (tmp_path / ".set.unpacking" / "set" / "stale").write_text("half")
    folder = obtain(archive, tmp_path)
    assert not (folder / "stale").exists() and left(tmp_path) == ["set", "set.tgz"]
