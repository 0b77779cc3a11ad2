import os

import pytest
from kfp import dsl

from components import fingerprint_source
from components.data.fingerprint_source.fingerprint import fingerprint
from components.errors import InputError
from components.storage import filesystem
from tests.local_run import run_pipeline


@pytest.fixture(params=["local", "gs"])
def folder(request, tmp_path):
    if request.param == "gs":
        request.getfixturevalue("storage_emulator")
        uri = "gs://bucket/data"
    else:
        uri = str(tmp_path / "data")
        (tmp_path / "data").mkdir()
    fs, path = filesystem(uri)
    fs.pipe_file(f"{path}/a.csv", b"text\na\n")
    fs.pipe_file(f"{path}/b.csv", b"text\nb\n")
    return uri


def test_a_fingerprint_changes_exactly_when_the_content_does(folder):
    fs, path = filesystem(folder)
    seen = [fingerprint(folder)]
    assert fingerprint(folder) == seen[0] and len(seen[0]) == 64
    fs.pipe_file(f"{path}/a.csv", b"text\nA\n")  # the same size
    if not folder.startswith("gs://"):
        os.utime(f"{path}/a.csv", (1, 1))
    seen.append(fingerprint(folder))
    fs.pipe_file(f"{path}/c.csv", b"text\nc\n")
    seen.append(fingerprint(folder))
    fs.rm_file(f"{path}/b.csv")
    seen.append(fingerprint(folder))
    assert len(set(seen)) == 4
    fs.pipe_file(f"{path}/_SUCCESS", b"")
    assert fingerprint(folder) == seen[-1]
    assert fingerprint(f"{folder}/*.csv") == seen[-1] != fingerprint(f"{folder}/a.csv")


@pytest.mark.parametrize("uri", ["nowhere", "", "gs://", "http://host/x", "*.csv"])
def test_nothing_has_no_fingerprint(tmp_path, monkeypatch, uri):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError):
        fingerprint(uri)


def test_an_optional_source_may_be_left_out_but_not_missing():
    assert fingerprint("", allow_none=True) == ""
    with pytest.raises(InputError):
        fingerprint("nowhere", allow_none=True)


@dsl.pipeline
def fingerprint_only(uri: str):
    fingerprint_source(source_uri=uri).set_caching_options(False)


def test_component_fingerprints(tmp_path):
    (tmp_path / "a.csv").write_text("text\na\n")
    run = run_pipeline(fingerprint_only, tmp_path, uri=str(tmp_path / "a.csv"))
    assert run.parameter("fingerprint-source") == fingerprint(str(tmp_path / "a.csv"))
    assert "1 file, 7 bytes at" in run.log
