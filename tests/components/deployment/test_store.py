import json
import os
import shutil
import subprocess
import sys
import threading
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from components.deployment.store.names import is_version, parse_store_reference, time_after, version_name
from components.deployment.store.places import BucketPlace, open_place
from components.deployment.store.store import ChampionMovedError, ModelStore, NotThereError
from components.errors import InputError
from components.models import digest_of_model
from tests.components.deployment.bucket_server import serve_bucket

MODEL_FILES = ["config.json", "model.safetensors", "tokenizer.json"]
VERSION_FILES = sorted([*MODEL_FILES, "README.md", "version.json"])


def make_model(folder: Path, number: object) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name in MODEL_FILES:
        (folder / name).write_text(f"{name} of model {number}")
    (folder / "optimizer.pt").write_text("no part of the model")
    return folder


def push(store: ModelStore, folder: Path, name: str = "tickets"):
    return store.push(name, folder, {"metrics": {"accuracy": 0.9}}, lambda reference: f"# {reference}\n")


@pytest.fixture
def models(tmp_path):
    return [make_model(tmp_path / f"model-{number}", number) for number in range(4)]


@pytest.fixture
def bucket(monkeypatch):
    with serve_bucket() as (address, held):
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", address)
        yield held


@pytest.fixture(params=["folder", "bucket", "emulator"])
def store(request, tmp_path):
    if request.param == "folder":
        return ModelStore(str(tmp_path / "the models"))
    request.getfixturevalue("bucket" if request.param == "bucket" else "storage_emulator")
    return ModelStore("gs://bucket/team//models/")


def test_an_empty_store_holds_nothing(store):
    assert (store.names(), store.versions("tickets"), store.aliases("tickets")) == ([], [], {})
    with pytest.raises(NotThereError, match="has no alias 'champion'. It has none yet"):
        store.find("tickets", "champion")
    with pytest.raises(InputError, match="has no champion to go back to"):
        store.roll_back("tickets")


def test_versions_and_aliases(store, models):
    first, second = push(store, models[0]), push(store, models[1])
    assert store.move_champion("tickets", first.version) == {"champion": first.version}
    moved = store.move_champion("tickets", second.version, expected=first.version)
    assert moved == {"champion": second.version, "previous": first.version} == store.aliases("tickets")
    assert store.versions("tickets") == [first.version, second.version] == sorted([first.version, second.version])
    assert store.find("tickets", "champion") == store.find("tickets", second.version) == second
    assert store.set_alias("tickets", "staging", first.version)["staging"] == first.version
    assert store.roll_back("tickets") == {**moved, "champion": first.version, "previous": second.version} | {
        "staging": first.version
    }
    assert store.names() == ["tickets"]
    assert second.reference == f"{store.uri}/tickets@{second.version}"
    assert second.digest == digest_of_model(models[1]) and second.digest.startswith(second.version[-12:])


def test_a_version_holds_the_model_its_card_and_a_digest_of_every_file(tmp_path, models):
    version = push(ModelStore(str(tmp_path / "store")), models[0])
    folder = Path(version.uri)
    assert sorted(path.name for path in folder.iterdir()) == VERSION_FILES
    assert set(version.details["files"]) == {*MODEL_FILES, "README.md"}
    assert all((folder / name).read_bytes() == (models[0] / name).read_bytes() for name in MODEL_FILES)
    assert (folder / "README.md").read_text() == f"# {version.reference}\n"
    assert version.details["metrics"] == {"accuracy": 0.9}


def test_the_same_files_are_the_same_version(store, models):
    first = push(store, models[0])
    push(store, models[1])
    assert push(store, models[0]) == first
    assert len(store.versions("tickets")) == 2


def test_a_champion_that_moved_is_not_replaced(store, models):
    first, second, third = (push(store, model) for model in models[:3])
    store.move_champion("tickets", first.version, expected="")
    store.move_champion("tickets", second.version, expected=first.version)
    for expected in ("", first.version):
        with pytest.raises(ChampionMovedError, match=f"{second.version} is now the champion .* {third.version} is st"):
            store.move_champion("tickets", third.version, expected=expected)
    assert store.aliases("tickets") == {"champion": second.version, "previous": first.version}
    # A retry of the push that won finds everything done.
    assert store.move_champion("tickets", second.version, expected=first.version) == store.aliases("tickets")


def test_what_no_alias_can_be(store, models):
    version = push(store, models[0]).version
    with pytest.raises(InputError, match="'previous' is always the champion before"):
        store.set_alias("tickets", "previous", version)
    with pytest.raises(InputError, match="has no version '20200101-000000-0123456789ab'"):
        store.set_alias("tickets", "champion", "20200101-000000-0123456789ab")
    with pytest.raises(InputError, match="looks like a version"):
        store.set_alias("tickets", version, version)


@pytest.mark.parametrize(
    "name", ["", ".", "..", "a/b", "../a", "a@b", "a..b", "a\n", ".a", "é", "a b", "a" * 97, "a#b"]
)
def test_names_that_mean_something_else_in_a_path_are_refused(tmp_path, models, name):
    store = ModelStore(str(tmp_path / "store"))
    with pytest.raises(InputError, match="is no name for a model"):
        push(store, models[0], name)
    for selector in (name, f"{name}-", f"x/{name}"):
        with pytest.raises(InputError):
            store.find("tickets", selector)
    assert not (tmp_path / "store").exists()


@pytest.mark.parametrize("uri", ["", "gs://", "s3://bucket/models", "/gcs/bucket/models"])
def test_places_that_hold_no_store(uri):
    with pytest.raises(InputError):
        open_place(uri)


def test_a_bucket_that_is_missing_is_no_empty_store(bucket, models):
    store = ModelStore("gs://other/models")
    for call in (store.names, lambda: store.find("tickets", "champion"), lambda: push(store, models[0])):
        with pytest.raises(InputError, match="There is no bucket 'other'"):
            call()


@pytest.mark.parametrize(
    "content", [b"{", b"[]", b"{}", b'{"aliases": {"champion": "../../etc"}}', b'{"aliases": {"champion": 1}}']
)
def test_aliases_that_someone_broke(tmp_path, models, content):
    store = ModelStore(str(tmp_path / "store"))
    push(store, models[0])
    (tmp_path / "store/tickets/aliases.json").write_bytes(content)
    with pytest.raises(InputError, match=r"tickets/aliases.json is broken"):
        store.aliases("tickets")


@pytest.mark.parametrize("content", [b"{", b"[]", b"{}", b'{"digest": "0"}', b'{"digest": 7}'])
def test_a_manifest_that_someone_broke(tmp_path, models, content):
    store = ModelStore(str(tmp_path / "store"))
    version = push(store, models[0])
    Path(version.uri, "version.json").write_bytes(content)
    with pytest.raises(InputError, match=r"version.json is broken"):
        store.find("tickets", version.version)


def test_what_else_lies_in_a_store_is_no_version(tmp_path, models):
    store = ModelStore(str(tmp_path / "store"))
    version = push(store, models[0])
    shutil.copytree(version.uri, tmp_path / "store/tickets/backup")
    shutil.copytree(version.uri, tmp_path / "store/tickets/20261399-999999-0123456789ab")
    (tmp_path / "store/tickets/20260101-000000-0123456789ab").mkdir()
    (tmp_path / "store/notes.txt").write_text("")
    assert store.versions("tickets") == [version.version] and store.names() == ["tickets"]


def test_a_version_sorts_after_all_others_whatever_the_clock_says(tmp_path):
    now = datetime(2026, 5, 1, 12, 0, 0, tzinfo=UTC)
    ahead = "20300101-000000-0123456789ab"
    assert time_after([], now) == time_after(["20260501-115959-0123456789ab"], now) == now
    for versions in (["20260501-120000-0123456789ab"], [ahead, "20260501-115959-0123456789ab"]):
        assert version_name(time_after(versions, now), "0" * 64) > max(versions)
    assert is_version(ahead) and not is_version("20300132-000000-0123456789ab")


@pytest.mark.parametrize(
    ("reference", "parts"),
    [
        ("gs://bucket/models/tickets@champion", ("gs://bucket/models", "tickets", "champion")),
        ("gs://bucket/models//tickets@champion", ("gs://bucket/models", "tickets", "champion")),
        ("gs://bucket/tickets@champion", ("gs://bucket", "tickets", "champion")),
        ("/home/me@work/models/tickets@v", ("/home/me@work/models", "tickets", "v")),
        ("/tickets@v", ("/", "tickets", "v")),
        ("gs://bucket@champion", None),
        ("/home/me@work/model", None),
        ("/models/tickets@", None),
        ("/models/tickets", None),
        ("tickets@champion", None),
    ],
)
def test_references(reference, parts):
    parsed = parse_store_reference(reference)
    assert (parsed and (parsed.store, parsed.name, parsed.selector)) == parts


def test_a_push_that_is_killed_leaves_no_version(tmp_path, models):
    """The child dies with all files but the last one in place: at the rename that makes them a version."""
    code = """
import os, signal, sys
from pathlib import Path
from components.deployment.store.store import ModelStore
Path.rename = lambda self, target: os.kill(os.getpid(), signal.SIGKILL)
ModelStore(sys.argv[1]).push("tickets", Path(sys.argv[2]), {}, str)
"""
    child = subprocess.run([sys.executable, "-c", code, tmp_path / "store", models[0]])
    assert child.returncode == -9
    store = ModelStore(str(tmp_path / "store"))
    assert list((tmp_path / "store/tickets").glob(".push-*/version/version.json"))
    assert store.versions("tickets") == [] and store.names() == []
    assert store.versions("tickets") == [] and push(store, models[0]).version in store.versions("tickets")


@pytest.mark.parametrize("at", VERSION_FILES)
def test_an_upload_that_breaks_off_leaves_no_version(bucket, models, at):
    store = ModelStore("gs://bucket/models")
    bucket.fault = lambda method, name: "break off" if name.endswith(at) else ""
    with pytest.raises(Exception, match="broken off"):
        push(store, models[0])
    assert store.versions("tickets") == [] and store.names() == []
    bucket.fault = lambda method, name: ""
    version = push(store, models[0])
    written = [name for name in bucket.objects if f"/{version.version}/" in name]
    assert sorted(name.rsplit("/", 1)[1] for name in written) == VERSION_FILES
    assert store.versions("tickets") == [version.version]


def test_every_write_to_a_bucket_says_what_it_replaces(bucket, models):
    store = ModelStore("gs://bucket/models")
    for model in models[:2]:
        store.move_champion("tickets", push(store, model).version)
    generations = [expected for name, expected, _ in bucket.writes if name.endswith("aliases.json")]
    assert generations[0] == "0" and int(generations[1]) > 1000
    assert {expected for name, expected, _ in bucket.writes if not name.endswith("aliases.json")} == {"0"}
    assert {status for _, _, status in bucket.writes} == {200}
    last = [name.rsplit("/", 1)[1] for name, _, _ in bucket.writes if "aliases" not in name]
    assert last[len(VERSION_FILES) - 1] == last[-1] == "version.json"


def test_an_answer_that_is_lost_is_no_lost_race(bucket, models):
    """The client repeats the request, and finds its own first attempt in the way."""
    store = ModelStore("gs://bucket/models")
    lost = set()

    def lose_each_first_answer(method: str, name: str) -> str:
        first = name not in lost
        lost.add(name)
        return "lose the answer" if first else ""

    bucket.fault = lose_each_first_answer
    version = push(store, models[0])
    assert store.move_champion("tickets", version.version, expected="") == {"champion": version.version}
    assert store.versions("tickets") == [version.version]
    assert 412 in {status for _, _, status in bucket.writes}


def test_a_large_file_goes_up_in_a_session_with_the_same_condition(bucket, models):
    (models[0] / "model.safetensors").write_bytes(bytes(9 * 2**20))
    push(ModelStore("gs://bucket/models"), models[0])
    assert [expected for _, expected in bucket.sessions.values()] == ["0"]


def test_another_writer_between_reading_and_writing_is_seen(bucket):
    place, other = (BucketPlace("gs://bucket/models") for _ in range(2))
    assert place.swap("a.json", b"1", None) and not place.swap("a.json", b"2", None)
    read = other.read("a.json")
    assert place.swap("a.json", b"3", place.read("a.json"))
    assert not other.swap("a.json", b"4", read)
    assert other.read("a.json").data == b"3"


def test_two_pushes_in_a_bucket_in_the_same_second_do_not_mix(bucket, models, monkeypatch):
    """Both take the same name for different files: whoever writes the card first has the folder."""
    monkeypatch.setattr("components.deployment.store.store.version_name", lambda created, digest: taken.pop())
    digest = digest_of_model(models[0])
    taken = [version_name(datetime(2026, 1, 1, 0, 0, n, tzinfo=UTC), digest) for n in (1, 0)]
    bucket.write(f"models/tickets/{taken[1]}/README.md", b"another push that goes on", None)
    assert push(ModelStore("gs://bucket/models"), models[0]).version.startswith("20260101-000001")
    assert len(bucket.objects) == len(VERSION_FILES) + 1


_PUSHES = """
import sys
from pathlib import Path
from components.deployment.store.store import ModelStore
store = ModelStore(sys.argv[1])
print("ready", flush=True)
sys.stdin.readline()
for folder in sys.argv[2:]:
    version = store.push("tickets", Path(folder), {}, lambda reference: "# card")
    store.set_alias("tickets", Path(folder).name, version.version)
    store.move_champion("tickets", version.version)
"""


@pytest.mark.parametrize("kind", ["folder", "bucket"])
def test_two_processes_that_push_at_once_lose_nothing(request, tmp_path, kind):
    if kind == "bucket":
        held, meeting, arrived = request.getfixturevalue("bucket"), threading.Barrier(2), []

        def let_the_first_two_meet(method: str, name: str) -> str:
            if name.endswith("aliases.json") and len(arrived) < 2:
                arrived.append(name)
                meeting.wait(60)
            return ""

        held.fault = let_the_first_two_meet
    uri = "gs://bucket/models" if kind == "bucket" else str(tmp_path / "store")
    count = 4
    children = []
    for who in ("a", "b"):
        folders = [make_model(tmp_path / f"{who}{n}", f"{who}{n}") for n in range(count)]
        command = [sys.executable, "-c", _PUSHES, uri, *folders]
        children.append(subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=os.environ))
    for child in children:
        assert child.stdout.readline()
    for child in children:
        child.stdin.close()
    assert [child.wait(60) for child in children] == [0, 0]
    store = ModelStore(uri)
    aliases = store.aliases("tickets")
    assert set(aliases) == {"champion", "previous", *(f"{who}{n}" for who in "ab" for n in range(count))}
    assert len(store.versions("tickets")) == 2 * count and set(aliases.values()) == set(store.versions("tickets"))
    for name, version in aliases.items():
        if name not in ("champion", "previous"):
            assert store.find("tickets", version).digest == digest_of_model(tmp_path / name)
    assert aliases["champion"] in (aliases["a3"], aliases["b3"])
    if kind == "bucket":
        assert 412 in {status for _, _, status in held.writes}


def test_two_pushes_of_the_same_files_at_once_are_one_version(tmp_path, models):
    store = ModelStore(str(tmp_path / "store"))
    barrier, found = threading.Barrier(4), []

    def run() -> None:
        barrier.wait()
        found.append(push(store, models[0]))

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {version.digest for version in found} == {digest_of_model(models[0])} and len(found) == 4
    assert {version.version for version in found} <= set(store.versions("tickets"))
    assert push(store, models[0]).version in store.versions("tickets")


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("promote"), st.integers(0, 3)),
        st.tuples(st.just("store"), st.integers(0, 3)),
        st.tuples(st.just("judged against an old champion"), st.integers(0, 3)),
        st.tuples(st.just("roll back"), st.just(0)),
        st.tuples(st.just("staging"), st.integers(0, 3)),
    ),
    max_size=12,
)


@settings(max_examples=40, deadline=None)
@given(steps=STEPS)
def test_aliases_always_name_whole_versions_and_previous_is_the_champion_before(steps, tmp_path_factory):
    folder = tmp_path_factory.mktemp("property")
    store = ModelStore(str(folder / "store"))
    champion, previous, pushed = "", "", []
    for action, number in steps:
        if action == "roll back":
            if previous:
                store.roll_back("tickets")
                champion, previous = previous, champion
            else:
                with pytest.raises(InputError):
                    store.roll_back("tickets")
        else:
            version = push(store, make_model(folder / str(number), number)).version
            pushed += [version] if version not in pushed else []
            if action == "staging":
                store.set_alias("tickets", "staging", version)
            elif action == "promote":
                store.move_champion("tickets", version, expected=champion)
                champion, previous = (version, champion) if version != champion else (champion, previous)
            elif action != "store" and version != champion:
                with pytest.raises(ChampionMovedError):
                    store.move_champion("tickets", version, expected=previous or "20200101-000000-0123456789ab")
        aliases = store.aliases("tickets")
        assert (aliases.get("champion", ""), aliases.get("previous", "")) == (champion, previous)
        assert store.versions("tickets") == pushed, "sorted by time, none lost, none twice"
        for alias in aliases:
            found = store.find("tickets", alias)
            assert sorted(path.name for path in Path(found.uri).iterdir()) == VERSION_FILES
            assert digest_of_model(Path(found.uri)) == found.digest


def command(*arguments):
    done = subprocess.run(
        [sys.executable, "-m", "components.deployment.store", *arguments], capture_output=True, text=True
    )
    return done.returncode, done.stdout, done.stderr


def test_the_command(tmp_path, models):
    root = str(tmp_path / "store")
    store = ModelStore(root)
    first, second = push(store, models[0]), push(store, models[1])
    for version in (first, second):
        store.move_champion("tickets", version.version)
    assert second.version in command("list", root)[1]
    lines = command("list", root, "tickets")[1].splitlines()
    assert any(first.version in line and "previous" in line for line in lines)
    shown = json.loads(command("show", f"{root}/tickets@champion")[1])
    assert (shown["reference"], shown["aliases"]) == (second.reference, ["champion"])
    assert command("rollback", f"{root}/tickets")[1].splitlines()[0] == f"champion: {first.version}"
    assert command("set-alias", f"{root}/tickets", "champion", second.version)[0] == 0
    assert store.aliases("tickets") == {"champion": second.version, "previous": first.version}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["list", "{root}"], "There is no model in"),
        (["list", "{root}", "tickets"], "There is no version of 'tickets'"),
        (["list", "s3://bucket"], "is at s3://"),
        (["show", "{root}/tickets@champion"], "has no alias 'champion'"),
        (["show", "{root}/tickets"], "does not name a model in a store"),
        (["rollback", "{root}/tickets"], "has no champion to go back to"),
        (["set-alias", "{root}/tickets", "champion", "best"], "has no version 'best'"),
    ],
)
def test_the_command_says_what_is_wrong_in_two_lines(tmp_path, arguments, words):
    code, out, errors = command(*(argument.format(root=tmp_path / "store") for argument in arguments))
    assert (code, out) == (2, "") and words in errors and len(errors.splitlines()) == 2, errors


def test_the_commands_help_has_an_example():
    assert "python -m components.deployment.store rollback gs://" in " ".join(command("--help")[1].split())
