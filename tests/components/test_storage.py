import pytest

from components.errors import InputError
from components.storage import (
    digest_of,
    download_folder,
    filesystem,
    job_folder,
    list_files,
    move_into_place,
    write_texts,
)


@pytest.fixture(params=["local", "gs"])
def root(request, tmp_path):
    uri = "gs://bucket/root" if request.param == "gs" else str(tmp_path / "root")
    if request.param == "gs":
        request.getfixturevalue("storage_emulator")
    fs, path = filesystem(uri)
    for name in ("a.csv", "B.CSV", "sub/c.csv", "sub/d.txt", "_SUCCESS", ".hidden/e.csv", "_tmp/f.csv"):
        fs.makedirs(f"{path}/{name}".rsplit("/", 1)[0], exist_ok=True)
        fs.pipe_file(f"{path}/{name}", name.encode())
    return uri


@pytest.mark.parametrize(
    ("pattern", "suffixes", "names"),
    [
        ("", (), ["B.CSV", "a.csv", "sub/c.csv", "sub/d.txt"]),
        ("", (".csv",), ["B.CSV", "a.csv", "sub/c.csv"]),
        ("/a.csv", (".txt",), ["a.csv"]),
        ("/*.csv", (), ["a.csv"]),
        ("/sub/*", (), ["c.csv", "d.txt"]),
        ("/*/*.csv", (), ["sub/c.csv"]),
        ("/**/*.csv", (), ["a.csv", "sub/c.csv"]),
        ("/_SUCCESS", (), ["_SUCCESS"]),
    ],
)
def test_files_are_listed_with_names_relative_to_what_was_asked(root, pattern, suffixes, names):
    files = list_files(root + pattern, suffixes)
    assert [file.name for file in files] == names
    assert all(file.uri.endswith(file.name) and file.uri.startswith(root) and file.size for file in files)


def test_a_listing_is_never_an_earlier_one(root):
    before = list_files(root)
    fs, path = filesystem(root)
    fs.pipe_file(f"{path}/a.csv", b"other content")
    fs.pipe_file(f"{path}/new.csv", b"new")
    after = list_files(root)
    assert len(after) == len(before) + 1 and digest_of(after[:-1]) != digest_of(before)


@pytest.mark.parametrize("uri", ["/nowhere", "/nowhere/*.csv", "/a.csv/x"])
def test_nothing_there(root, uri):
    with pytest.raises(InputError, match="There is no file"):
        list_files(root + uri)


def test_a_folder_is_copied_with_its_sub_folders(root, tmp_path):
    download_folder(root, tmp_path / "copy")
    assert (tmp_path / "copy/sub/c.csv").read_text() == "sub/c.csv"
    with pytest.raises(InputError, match="There is no folder"):
        download_folder(f"{root}/a.csv", tmp_path / "file")


def test_a_bucket_that_does_not_exist(storage_emulator):
    with pytest.raises(InputError, match="There is no file"):
        list_files("gs://no-such-bucket/x")


@pytest.mark.parametrize("uri", ["", "gs://", "s3://bucket/x"])
def test_uris_that_name_no_known_store(uri):
    with pytest.raises(InputError, match="Give a local path or a gs:// URI"):
        filesystem(uri)


def test_links_to_files_are_files_as_they_are_now(tmp_path):
    (tmp_path / "data").mkdir()
    target = tmp_path / "target.csv"
    target.write_text("first")
    (tmp_path / "data/link.csv").symlink_to(target)
    (before,) = list_files(str(tmp_path / "data"))
    target.write_text("second time")
    (after,) = list_files(str(tmp_path / "data"))
    assert (before.size, after.size) == (5, 11) and before.version != after.version
    target.unlink()
    with pytest.raises(InputError, match="is a link to a file that does not exist"):
        list_files(str(tmp_path / "data"))


def test_a_file_whose_name_holds_a_wildcard(tmp_path):
    (tmp_path / "a[1].csv").write_text("x")
    assert [file.name for file in list_files(str(tmp_path / "a[1].csv"))] == ["a[1].csv"]


def test_moving_replaces_an_earlier_folder(tmp_path):
    for name in ("old", "new"):
        (tmp_path / name).mkdir()
        (tmp_path / name / f"{name}.txt").touch()
    move_into_place(tmp_path / "new", tmp_path / "old")
    assert [file.name for file in (tmp_path / "old").iterdir()] == ["new.txt"]


def test_texts_are_written_all_or_none(tmp_path):
    (tmp_path / "one").write_text("old")
    with pytest.raises(TypeError):
        write_texts({tmp_path / "one": "new", tmp_path / "two": None})
    assert (tmp_path / "one").read_text() == "old" and not (tmp_path / "two").exists()
    write_texts({tmp_path / "one": "ação \udc80", str(tmp_path / "sub" / "two"): "new"})
    assert (tmp_path / "one").read_text(encoding="utf-8") == "ação \\udc80"
    assert (tmp_path / "sub" / "two").read_text() == "new"


@pytest.mark.parametrize(
    ("uri", "path", "expected"),
    [
        ("gs://bucket/root/job/step/model", "/gcs/bucket/root/job/step/model", "gs://bucket/root/job"),
        ("/runs/job/step/model", "/runs/job/step/model", "/runs/job"),
        ("minio://bucket/job/step/model", "/minio/bucket/job/step/model", "/minio/bucket/job"),
    ],
)
def test_the_folder_of_a_job_is_one_that_can_be_written(uri, path, expected):
    assert job_folder(uri, path) == expected
