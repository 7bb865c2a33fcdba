"""Faults 20 and 21 of a gallery on PostgreSQL: what happens behind its back, and what a deletion reaches."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import psycopg
import pytest

from facewright.errors import GalleryDamaged, GalleryError
from facewright.gallery.postgres import PostgresStore
from facewright.gallery.postgres_connection import address_of
from fixtures.hostile import entry, everything, filled, pieces, traces

if TYPE_CHECKING:
    from fixtures.postgres_server import Server

slow = pytest.mark.slow


# Behind its back (fault 20).

HIDDEN = {  # what the server finds nothing wrong with
    "a row is gone": "DELETE FROM entries WHERE number = 3",
    "a row came back": "ALTER TABLE entries DROP CONSTRAINT entries_pkey; "
    "INSERT INTO entries SELECT * FROM entries LIMIT 1",
    "two rows came back": "ALTER TABLE entries DROP CONSTRAINT entries_pkey; "
    "INSERT INTO entries SELECT entries.* FROM entries, (VALUES (1), (2)) AS twice WHERE number = 1",
    "a number": "UPDATE entries SET number = 99 WHERE number = 3",
    "a name": "UPDATE entries SET person = 'person 9' WHERE number = 3",
    "metadata": """UPDATE entries SET metadata = '{"n": "7"}' WHERE number = 3""",
    "a vector": "UPDATE entries SET vector = (SELECT vector FROM entries WHERE number = 4) WHERE number = 3",
    "its sign": "UPDATE entries SET vector = vector * array_fill(-1, ARRAY[64])::vector WHERE number = 3",
    "two names": "UPDATE entries SET person = 'person ' || (5 - number) WHERE number IN (3, 4)",
    "a checksum": "UPDATE entries SET checksum = (SELECT checksum FROM entries WHERE number = 4) WHERE number = 3",
    "the totals": "UPDATE book SET body = replace(body, '\"entries\": 6', '\"entries\": 5')",
    "no totals": "DELETE FROM book",
    "a crop": "UPDATE crops SET png = substr(png, 2) WHERE number = 3",
    "a crop is gone": "DELETE FROM crops WHERE number = 3",
}


@pytest.mark.parametrize("what", HIDDEN)
def test_what_the_server_does_not_see_is_noticed(what: str, server: Server, address: str) -> None:
    filled(address).close()
    server.say(f"SET search_path = {address_of(address).gallery}, public; {HIDDEN[what]}")
    with pytest.raises(GalleryDamaged, match="damaged"):
        store = PostgresStore(address)  # this is enough, but for crops
        with contextlib.closing(store):
            assert "crop" in what
            store.check()


FOREIGN = {  # what was added to the schema -> its name
    "CREATE TABLE kept (v bytea)": "kept",
    "CREATE VIEW people AS SELECT person FROM entries": "people",
    "CREATE FUNCTION keep() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'; "
    "CREATE TRIGGER keep AFTER INSERT ON entries FOR EACH ROW EXECUTE FUNCTION keep()": "keep",
    "CREATE RULE keep AS ON DELETE TO entries DO INSTEAD NOTHING": "keep",
    "ALTER TABLE entries ADD note text": "note",
    "ALTER TABLE crops RENAME TO kept; CREATE VIEW crops AS SELECT * FROM kept": "crops",
    "CREATE INDEX more ON entries (photo)": "more",
    "CREATE MATERIALIZED VIEW kept AS SELECT vector FROM entries": "kept",
}


@pytest.mark.parametrize("script", FOREIGN)
def test_a_foreign_schema_is_refused(script: str, server: Server, address: str) -> None:
    with contextlib.closing(filled(address)) as store:
        server.say(f"SET search_path = {address_of(address).gallery}, public; {script}")
        with pytest.raises(GalleryDamaged, match=FOREIGN[script]):
            store.delete(["person 0"])
    with pytest.raises(GalleryDamaged, match=FOREIGN[script]):
        PostgresStore(address)


def test_a_row_changed_while_the_gallery_is_open_is_noticed_when_it_is_read(server: Server, address: str) -> None:
    with contextlib.closing(filled(address)) as store:
        server.say(f"UPDATE {store._address.gallery}.entries SET photo = 'other' WHERE number = 1")
        for ask in (lambda: list(store.rows()), lambda: store.nearest(entry(0, 0).vector[None], 1, {})):
            with pytest.raises(GalleryDamaged, match="entry 1"):
                ask()


@pytest.mark.parametrize("count", [12, pytest.param(400, marks=slow)])
def test_no_bit_that_flips_in_the_server_s_files_makes_a_silent_difference(server: Server, count: int) -> None:
    """Each time in a new copy of the database: a copy of files, of which the server has read none yet."""
    server.say("CREATE DATABASE sound")
    try:
        with contextlib.closing(filled(server.address(database="sound", gallery="g"))) as store:
            truth = everything(store)
        files = [
            path
            for (path,) in server.say(
                "SELECT pg_relation_filepath(c.oid) FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace "
                "WHERE relkind IN ('r', 'i', 't') AND relname NOT LIKE 'log%' "
                "AND (nspname = 'g' OR c.oid IN (SELECT reltoastrelid FROM pg_class "
                "WHERE relnamespace = 'g'::regnamespace) OR c.oid IN (SELECT indexrelid FROM pg_index WHERE indrelid "
                "IN (SELECT reltoastrelid FROM pg_class WHERE relnamespace = 'g'::regnamespace)))",
                database="sound",
            )
        ]
        files = [Path(path).name for path in files if (server.folder / path).stat().st_size]
        drawn, noticed, silent = np.random.default_rng(0), 0, 0
        for _ in range(count):
            outcome = opened_damaged(server, files[drawn.integers(len(files))], drawn, truth)
            noticed, silent = noticed + (outcome is None), silent + (outcome is False)
        assert silent == 0
        ((watched,),) = server.say("SELECT current_setting('data_checksums')")
        assert noticed > (count // 3 if watched == "on" else 0)  # else most bits that flip lie where nothing is
    finally:
        server.say("DROP DATABASE sound WITH (FORCE)")


def opened_damaged(server: Server, file: str, drawn: np.random.Generator, truth: object) -> bool | None:
    """Whether the gallery holds what it held, with a bit of a file flipped; None where that is noticed."""
    server.say("CREATE DATABASE rotten TEMPLATE sound STRATEGY file_copy")
    try:
        ((oid,),) = server.say("SELECT oid FROM pg_database WHERE datname = 'rotten'")
        path = server.folder / "base" / str(oid) / file
        content = bytearray(path.read_bytes())
        place = int(drawn.integers(8 * len(content)))
        content[place // 8] ^= 1 << place % 8
        path.write_bytes(content)
        try:
            with contextlib.closing(PostgresStore(server.address(database="rotten", gallery="g"))) as store:
                return everything(store) == truth
        except GalleryError:
            return None
    finally:
        server.say("DROP DATABASE rotten WITH (FORCE)")


# Roles, and what a deletion reaches (fault 21).


def test_a_plain_role_deletes_what_it_may_and_says_what_remains(server: Server, plain: str) -> None:
    with contextlib.closing(filled(plain, first=900)) as store:
        assert store.delete(["person 900"]) == 2
        assert "GRANT pg_checkpoint" in store.remains and "\n" not in store.remains
        assert not store._read_header().erasing  # all was done that this role can
        server.say("GRANT pg_checkpoint, pg_monitor TO plain; GRANT EXECUTE ON FUNCTION pg_switch_wal() TO plain")
        try:
            assert store.delete(["person 901"]) == 2
            assert store.remains == ""
            assert traces(server.folder, pieces(900, 2) | pieces(901, 2)) == 0
        finally:
            server.say("REVOKE pg_checkpoint, pg_monitor FROM plain")
            server.say("REVOKE EXECUTE ON FUNCTION pg_switch_wal() FROM plain")


def test_a_replica_that_keeps_the_log_is_told_of(server: Server, address: str) -> None:
    server.say("SELECT pg_create_physical_replication_slot('replica', true)")
    try:
        with contextlib.closing(filled(address, first=920)) as store:
            store.delete(["person 920"])
            assert "replicas" in store.remains and "segments of the write-ahead log" in store.remains
            assert traces(server.folder, pieces(920, 2)) > 0  # it is true
    finally:
        server.say("SELECT pg_drop_replication_slot('replica')")
    with contextlib.closing(PostgresStore(address)) as store:
        store.delete(["person 921"])
        assert (store.remains, traces(server.folder, pieces(920, 2))) == ("", 0)


def test_many_deletions_do_not_make_the_log_grow(server: Server, address: str) -> None:
    count = "SELECT count(*) FROM pg_ls_waldir() WHERE name ~ '^[0-9A-F]{24}$'"
    with contextlib.closing(filled(address, people=8, first=940)) as store:
        store.delete(["person 940"])
        ((before,),) = server.say(count)
        for who in range(941, 947):
            store.delete([f"person {who}"])
        assert server.say(count)[0][0] <= before + 2


def test_neither_statistics_nor_an_old_transaction_keep_what_is_deleted(server: Server, address: str) -> None:
    with contextlib.closing(filled(address, people=200, photos=1, first=4_000)) as store:
        server.say(f"ANALYZE {store._address.gallery}.entries")
        server.say(f"ANALYZE {store._address.gallery}.crops")
        with psycopg.connect(f"postgresql://postgres@/postgres?host={server.folder}") as old:
            old.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
            old.execute("SELECT count(*) FROM pg_class")  # it might still look at everything
            store.delete(["person 4007"])
            name = b"person 4007"
            assert traces(server.folder, pieces(4_007, 1)) == 0
            left = [
                path for path in (server.folder / "base").rglob("*") if path.is_file() and name in path.read_bytes()
            ]
            assert left == []
