"""A gallery on PostgreSQL: its address, the two searches, the server and the roles it depends on."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from numpy.typing import NDArray

from facewright import gallery as opening
from facewright.cli.main import main
from facewright.errors import GalleryDamaged, GalleryError, UsageError
from facewright.gallery import exists, open_store
from facewright.gallery.entries import Entry, ModelSignature
from facewright.gallery.postgres import PostgresStore
from facewright.gallery.postgres_connection import address_of
from facewright.gallery.sqlite import SqliteStore
from facewright.gallery.store import GalleryStore
from fixtures.faces import draw_people, saved, small_bundle
from fixtures.hostile import SIGNATURE, entry, everything, filled

if TYPE_CHECKING:
    from fixtures.postgres_server import Server

slow = pytest.mark.slow


# The address, and the password in it.

SHOWN = {  # what is given -> what people see
    "postgresql://db": "postgresql://db",
    "postgres://db/faces?gallery=facewright&index=exact": "postgresql://db/faces",
    "postgresql://ann:hush@db:5433/faces?gallery=staff": "postgresql://ann@db:5433/faces?gallery=staff",
    "postgresql://ann:hu@sh@db/faces": "postgresql://ann@db/faces",
    "postgresql://ann@[::1]:5433,other:1/faces?password=hush&index=hnsw": (
        "postgresql://ann@[::1]:5433,other:1/faces?index=hnsw"
    ),
    "postgresql:///faces?host=%2Frun%2Fpg&sslpassword=hush": "postgresql:///faces?host=/run/pg",
}


@pytest.mark.parametrize("url", SHOWN)
def test_what_is_shown_of_an_address(url: str) -> None:
    assert address_of(url).shown == SHOWN[url]
    assert "hush" not in repr(address_of(url))


REFUSED = [  # each could hold a piece of a password where it is no longer known to be one
    "postgresql://ann:hu/sh@db/faces",
    "postgresql://ann:hu#sh@db/faces",
    "postgresql://ann:hu?sh@db/faces",
    "postgresql://db:hush/faces",
    "postgresql://db/faces?hush",
    "postgresql://db/faces?gallery=Hush",
    "postgresql://db/faces?gallery=pg_hush",
    "postgresql://db/faces?gallery=public",
    "postgresql://db/faces?index=ivf",
]


@pytest.mark.parametrize("url", REFUSED)
def test_no_address(url: str) -> None:
    with pytest.raises(UsageError) as refused:
        address_of(url)
    assert "sh@" not in str(refused.value) and "db" not in str(refused.value).replace("database", "")


UNREACHABLE = {  # an address -> a word of the error
    "postgresql://ann:hush@localhost:1/faces": "cannot be reached",
    "postgresql://ann:hush@localhost:1/faces?connect_timeout=hush": "libpq understands",
    "postgresql://ann:hush@localhost:1/faces?no_such_option=hush": "libpq understands",
    "postgresql://ann:hu%sh@localhost:1/faces": "libpq understands",
}


@pytest.mark.parametrize("url", UNREACHABLE)
def test_a_server_that_is_not_there_is_one_clear_line(url: str, server: Server) -> None:
    for ask in (lambda: open_store(url, SIGNATURE), lambda: exists(url)):
        with pytest.raises((GalleryError, UsageError), match=UNREACHABLE[url]) as refused:
            ask()
        assert "hu" not in str(refused.value) and "\n" not in str(refused.value)
        assert refused.value.__cause__ is None and refused.value.__suppress_context__


def test_the_password_is_nowhere(server: Server, address: str) -> None:
    secret = address.replace("postgres@", "postgres:hush@")
    with contextlib.closing(filled(secret)) as store:
        server.say(f"UPDATE {store._address.gallery}.book SET body = 'hush'")
        with pytest.raises(GalleryDamaged) as noticed:
            store.header()
        assert "hush" not in f"{store.location} {store!r} {noticed.value}" and "postgres@" in store.location


# Two searches.


def many(count: int, width: int = 64) -> NDArray[np.float32]:
    drawn = np.random.default_rng(0).standard_normal((count, width))
    return (drawn / np.linalg.norm(drawn, axis=1, keepdims=True)).astype(np.float32)


def crowd(store: GalleryStore, vectors: NDArray[np.float32], people: int) -> None:
    tags = ({"team": "a"}, {"team": "b", "note": 'x "\\ é \u2028'}, {})
    store.add(
        [
            Entry(f"p{i % people}", v, str(i), "", tags[i % 3] if i % 50 else {"rare": "1"})
            for i, v in enumerate(vectors)
        ]
    )


def test_the_answers_are_those_of_a_file(address: str, tmp_path: Path) -> None:
    vectors = many(1_500)
    vectors[300:600] = vectors[:300]  # ties
    with (
        contextlib.closing(SqliteStore(tmp_path / "g.gallery", SIGNATURE)) as file,
        contextlib.closing(PostgresStore(address, SIGNATURE)) as store,
    ):
        for one in (file, store):
            crowd(one, vectors, 400)
        for where in ({}, {"team": "a"}, {"team": "b", "note": 'x "\\ é \u2028'}, {"rare": "1"}, {"team": "c"}):
            for a, b in zip(file.nearest(vectors[:9], 7, where), store.nearest(vectors[:9], 7, where), strict=True):
                assert [(m.person, m.number, m.metadata) for m in a] == [(m.person, m.number, m.metadata) for m in b]
                np.testing.assert_allclose([m.score for m in a], [m.score for m in b], rtol=0, atol=1e-12)


def test_the_index_finds_nearly_all_and_with_a_filter_as_many_as_there_are(address: str) -> None:
    vectors, k = many(2_000), 10
    with contextlib.closing(PostgresStore(address, SIGNATURE)) as exact:
        crowd(exact, vectors, 2_000)
        with contextlib.closing(PostgresStore(address + "&index=hnsw")) as by_index:  # the same gallery
            found = hits = 0
            for where in ({}, {"team": "a"}, {"rare": "1"}):
                probes = many(30)[::-1] + np.float32(0.01)
                for a, b in zip(exact.nearest(probes, k, where), by_index.nearest(probes, k, where), strict=True):
                    assert len(a) == len(b) == k
                    assert [m.score for m in b] == sorted((m.score for m in b), reverse=True)
                    found, hits = found + k, hits + len({m.person for m in a} & {m.person for m in b})
            assert hits / found >= 0.95
            assert len(by_index.nearest(probes[:1], 200, {"rare": "1"})[0]) == 40  # all there are


def test_exact_does_not_use_the_index_and_the_other_does(server: Server, address: str) -> None:
    with contextlib.closing(filled(address + "&index=hnsw")) as store:
        gallery = f"{store._address.gallery}.entries_by_likeness"
        for where, used in ((address, False), (address + "&index=hnsw", True)):
            before = scans(server, gallery)
            with contextlib.closing(PostgresStore(where)) as one:
                one.nearest(entry(0, 0).vector[None], 1, {})
            assert (scans(server, gallery) > before) is used


def scans(server: Server, index: str) -> int:
    ((count,),) = server.say("SELECT idx_scan FROM pg_stat_all_indexes WHERE indexrelid = %s::regclass", index)
    return int(count)


def test_vectors_too_wide_for_the_index(address: str) -> None:
    with pytest.raises(UsageError, match="2,000"):
        PostgresStore(
            address + "&index=hnsw",
            ModelSignature(fingerprint="a" * 32, model="wide", crop=1.0, flip=False, width=2_048),
        )
    with contextlib.closing(PostgresStore(address)) as store:
        vector = np.eye(1, 2_048, dtype=np.float32)[0]
        store.add([Entry("ann", vector, "1")])
        assert store.nearest(vector[None], 1, {})[0][0].score == 1.0


def test_names_of_any_length_and_galleries_beside_each_other(address: str, server: Server) -> None:
    with contextlib.closing(filled(address)) as one, contextlib.closing(filled(server.address(), people=1)) as other:
        one.add([Entry("é€" * 500, entry(9, 9).vector, "d" * 1_000, "\U0001f600" * 1_000)])
        assert len(one.people()) == 4 and list(other.people()) == ["person 0"]
        one.check()


# The server goes, and comes back.


def test_after_a_restart_it_goes_on_and_what_it_told_is_kept(server: Server, address: str) -> None:
    with contextlib.closing(filled(address)) as store:
        before = everything(store)
        for how in ("fast", "immediate"):  # the second is a crash
            server.restart(how)
            assert everything(store) == before
        server.stop()
        try:
            with pytest.raises(GalleryError, match="cannot be reached"):
                store.people()
        finally:
            server.start()
        assert store.add([entry(8, 8)]) == [7]


def test_a_session_that_is_ended_in_the_midst_changes_nothing(server: Server, address: str) -> None:
    with contextlib.closing(filled(address)) as store:
        before = everything(store)
        with pytest.raises(GalleryError, match="try again"), store._writing():
            server.say("SELECT pg_terminate_backend(%s)", store._connection.info.backend_pid)
            store._connection.execute("DELETE FROM entries")
        assert everything(store) == before
    with pytest.raises(GalleryError, match="closed"):
        store.header()


def test_the_server_runs_as_nobody_in_particular(server: Server) -> None:
    pid = (server.folder / "postmaster.pid").read_text().split()[0]
    if Path("/proc", pid).exists():
        assert Path("/proc", pid).stat().st_uid != 0


# Roles, and what a database lacks.


NOT_ALLOWED = {  # what is said as the superuser first -> a word of the error
    "no schema": ("", "permission denied for database"),
    "another's schema": ("CREATE SCHEMA {gallery}", "may not use the schema"),
}


@pytest.mark.parametrize("case", NOT_ALLOWED)
def test_a_role_that_may_not_make_a_gallery(case: str, server: Server, plain: str) -> None:
    address = server.address(user="plain")
    query, word = NOT_ALLOWED[case]
    if query:
        server.say(query.format(gallery=address_of(address).gallery))
    with pytest.raises(GalleryError, match=word):
        PostgresStore(address, SIGNATURE)
    assert not exists(address)


def test_a_role_that_may_only_read(server: Server, address: str) -> None:
    name = address_of(address).gallery
    server.say(f"DROP ROLE IF EXISTS reader{name}")
    with contextlib.closing(filled(address)) as store, store._writing() as header:
        store._write(
            header.model_copy(update={"erasing": True})
        )  # a deletion was interrupted; it is not the reader's to finish
    server.say(f"CREATE ROLE reader{name} LOGIN; GRANT USAGE ON SCHEMA {name} TO reader{name}")
    server.say(f"GRANT SELECT ON ALL TABLES IN SCHEMA {name} TO reader{name}")
    with contextlib.closing(PostgresStore(server.address(user=f"reader{name}", gallery=name))) as store:
        assert store.nearest(entry(1, 0).vector[None], 1, {})[0][0].person == "person 1"
        assert store.crop(1) == entry(0, 0).crop
        for change in (lambda: store.add([entry(7, 7)]), lambda: store.delete(["person 1"])):
            with pytest.raises(GalleryError, match="may not"):
                change()


def test_a_database_that_lacks_something(server: Server, plain: str) -> None:
    server.say("CREATE DATABASE bare")
    server.say("CREATE DATABASE narrow ENCODING 'SQL_ASCII' TEMPLATE template0 LOCALE 'C'")
    with pytest.raises(GalleryError, match="CREATE EXTENSION vector"):
        PostgresStore(server.address(database="bare", user="plain"), SIGNATURE)
    assert not exists(server.address(database="bare"))
    assert server.say("SELECT 1 FROM pg_extension WHERE extname = 'vector'", database="bare") == []  # looking made none
    with pytest.raises(GalleryError, match="UTF8"):
        PostgresStore(server.address(database="narrow"), SIGNATURE)


def test_a_gallery_of_another_version(server: Server, address: str) -> None:
    filled(address).close()
    server.say(f"UPDATE {address_of(address).gallery}.book SET version = 2")
    with pytest.raises(GalleryError, match="version 2"):
        PostgresStore(address)


def test_without_the_libraries_it_is_said_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("facewright.errors.find_spec", lambda name: None)
    for ask in (opening.open_store, opening.exists):
        with pytest.raises(UsageError, match=r"facewright\[postgres\]") as refused:
            ask("postgresql://ann:hush@db/faces")
        assert "hush" not in str(refused.value)


# From the outside.


def test_every_command_works_on_a_server(plain: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    where = plain.replace("plain@", "plain:hush@")
    photos, model = draw_people(tmp_path / "photos", people=5, photos=4), saved(tmp_path)
    photo, out = photos / "person_02" / "1.png", tmp_path / "people.jsonl"
    (tmp_path / "other").mkdir()
    other = saved(tmp_path / "other", small_bundle(seed=1))
    steps = [  # words -> what is said
        (
            ("enroll", photos, "-m", model, "--keep-crops", "--meta", "team=a", "-q"),
            "20 photos in postgres",
        ),
        (("calibrate", "--fpir", "0.1"), "20 enrolled photos of 5 people"),
        (("identify", photo), "person_02 (1.0000 >="),
        (("search", photo, "--where", "team=a", "-k", "2"), "1.0000  person_02"),
        (("list",), "person_00       4"),
        (("list", "person_02", "--json"), '"gallery": "postgresql://plain@'),
        (("stats",), "20 photos of 5 people, verified"),
        (("export", "--out", out), "20 entries"),
        (("delete", "person_02"), "write-ahead log"),
        (("delete", "person_03", "--json"), "GRANT pg_checkpoint"),
        (("import", out), "8 photos into postgresql:"),
        (("reembed", "-m", other), "20 entries of postgresql:"),
        (("stats",), "threshold    none"),
    ]
    for (command, *words), said in steps:
        status = main(["gallery", command, "-g", where, *map(str, words)])
        told = "".join(capsys.readouterr())
        assert status == 0 and said in told and "hush" not in told, told
