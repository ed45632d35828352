import json
import os
import resource
import subprocess
import sys
import threading
import time
from pathlib import Path

import polars as pl
import pytest
from upath import UPath

from ml_platform.lake import (
    STALE_AFTER_SECONDS,
    LakeCorruption,
    LakeNameRefused,
    LakeWriteFailed,
    PartitionedTable,
    PartitionMissing,
    parquet_bytes,
    write_atomically,
)
from ml_platform_tests.processes import SIGKILLED, run

DAY = "2017-06-05"
OLD = pl.DataFrame({"household_id": [1, 2, 3], "spend_cents": [100, 200, 300]})
NEW = pl.DataFrame({"household_id": [1, 2, 3, 4], "spend_cents": [110, 210, 310, 410]})


@pytest.fixture
def table(tmp_path: Path) -> PartitionedTable:
    return PartitionedTable(tmp_path, "household")


def publish(root: Path | UPath, frame: pl.DataFrame) -> None:
    table = PartitionedTable(root, "household")
    table.publish(table.stage(DAY, frame))


def files(table: PartitionedTable) -> list[str]:
    return sorted(path.name for path in table.folder.rglob("*") if path.is_file())


def test_what_is_staged_is_not_seen(table: PartitionedTable) -> None:
    table.stage(DAY, OLD)
    assert table.published(DAY) is None
    assert table.partitions() == []
    with pytest.raises(PartitionMissing):
        table.read(DAY)


def test_what_is_published_is_read_back_with_its_metadata(table: PartitionedTable) -> None:
    published = table.publish(table.stage(DAY, OLD, {"landed_before": DAY}))
    assert table.read(DAY, verify=True).equals(OLD)
    assert table.published(DAY) == published
    assert (published.rows, published.metadata) == (3, {"landed_before": DAY})


def test_partitions_are_scanned_together_in_the_order_asked_for(table: PartitionedTable) -> None:
    for partition, frame in (("2017-06-05", OLD), ("2017-06-12", NEW)):
        table.publish(table.stage(partition, frame))
    assert table.partitions() == ["2017-06-05", "2017-06-12"]
    assert table.scan(["2017-06-12", "2017-06-05"]).collect().equals(pl.concat([NEW, OLD]))


def test_publishing_the_same_again_writes_nothing_new(table: PartitionedTable) -> None:
    publish(table.folder.parent, OLD)
    pointer = table.folder / "published" / f"{DAY}.json"
    before = (pointer.stat().st_mtime_ns, files(table))
    publish(table.folder.parent, OLD)
    assert (pointer.stat().st_mtime_ns, files(table)) == before


def test_equal_lists_are_equal_bytes_whatever_longer_lists_they_are_a_slice_of() -> None:
    rows = pl.select(pl.int_range(10_000, dtype=pl.Int64).alias("n"))
    part = rows.select("n", pl.int_ranges("n", pl.col("n") + 200).alias("of")).tail(1_000)
    alone = pl.DataFrame(part.to_dict(as_series=False), schema=part.schema)
    assert part.equals(alone)
    assert parquet_bytes(part) == parquet_bytes(alone)


def test_equal_frames_are_equal_bytes_whatever_the_chunks_and_threads(tmp_path: Path) -> None:
    rows = 300_000
    frame = pl.DataFrame({"n": range(rows), "text": [f"{i % 97}" for i in range(rows)]}).with_columns(
        ratio=pl.when(pl.col("n") % 5 > 0).then(pl.col("n") / 7)
    )
    chunked = pl.concat([frame[:70_001], frame[70_001:70_002], frame[70_002:]], rechunk=False)
    assert chunked.n_chunks() == 3
    frame.write_ipc(tmp_path / "frame.arrow")
    program = (
        "import hashlib, sys, polars as pl; from ml_platform.lake import parquet_bytes;"
        "print(hashlib.sha256(parquet_bytes(pl.read_ipc(sys.argv[1]))).hexdigest())"
    )
    command = [sys.executable, "-c", program, str(tmp_path / "frame.arrow")]
    digests = {
        subprocess.run(
            command, env={**os.environ, "POLARS_MAX_THREADS": threads}, check=True, capture_output=True, text=True
        ).stdout
        for threads in ("1", "7")
    }
    assert len(digests) == 1
    assert parquet_bytes(chunked) == parquet_bytes(frame)


@pytest.mark.parametrize("point", ["lake.data.half", "lake.data.written", "lake.pointer.half", "lake.pointer.written"])
def test_killed_before_the_swap_readers_see_the_old_partition_and_the_next_run_converges(
    table: PartitionedTable, point: str
) -> None:
    root = table.folder.parent
    publish(root, OLD)
    assert run(publish, root, NEW, kill_at=point) == SIGKILLED
    assert table.read(DAY, verify=True).equals(OLD)
    assert run(publish, root, NEW) == 0
    assert table.read(DAY, verify=True).equals(NEW)


def test_killed_after_the_swap_readers_see_the_new_partition(table: PartitionedTable) -> None:
    root = table.folder.parent
    publish(root, OLD)
    assert run(publish, root, NEW, kill_at="lake.published") == SIGKILLED
    assert table.read(DAY, verify=True).equals(NEW)


def test_a_first_publication_that_is_killed_leaves_nothing_to_read(table: PartitionedTable) -> None:
    assert run(publish, table.folder.parent, NEW, kill_at="lake.pointer.half") == SIGKILLED
    assert table.partitions() == []
    assert table.published(DAY) is None


def publish_on_a_full_disk(root: Path) -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))
    with pytest.raises(LakeWriteFailed, match="could not be written"):
        publish(root, pl.DataFrame({"n": range(10_000)}))


def test_a_full_disk_is_a_typed_error_and_leaves_the_old_partition_and_no_litter(table: PartitionedTable) -> None:
    publish(table.folder.parent, OLD)
    before = files(table)
    assert run(publish_on_a_full_disk, table.folder.parent) == 0
    assert table.read(DAY, verify=True).equals(OLD)
    assert files(table) == before


def test_a_failed_write_leaves_the_file_as_it_was(tmp_path: Path) -> None:
    target = tmp_path / "taken"
    target.mkdir()
    with pytest.raises(LakeWriteFailed):
        write_atomically(target, b"bytes")
    assert [path.name for path in tmp_path.iterdir()] == ["taken"]


def test_what_fails_its_checks_is_set_aside_with_the_reason_and_the_old_stays(table: PartitionedTable) -> None:
    publish(table.folder.parent, OLD)
    kept = table.set_aside(table.stage(DAY, NEW), "spend below 0")
    assert table.read(DAY).equals(OLD)
    assert pl.read_parquet(str(kept)).equals(NEW)
    assert json.loads(kept.with_suffix(".json").read_text())["reason"] == "spend below 0"
    assert len(list((table.folder / "data" / DAY).iterdir())) == 1


def test_setting_aside_what_is_also_published_takes_nothing_from_readers(table: PartitionedTable) -> None:
    publish(table.folder.parent, OLD)
    table.set_aside(table.stage(DAY, OLD), "a stricter check")
    assert table.read(DAY, verify=True).equals(OLD)


def test_replaced_files_go_once_they_are_two_publications_and_an_hour_old(table: PartitionedTable) -> None:
    root, data = table.folder.parent, table.folder / "data" / DAY
    for spend in (1, 2, 3):
        publish(root, pl.DataFrame({"spend_cents": [spend]}))
    assert len(list(data.iterdir())) == 3
    long_ago = time.time() - 2 * STALE_AFTER_SECONDS
    for path in data.iterdir():
        os.utime(str(path), (long_ago, long_ago))
    publish(root, pl.DataFrame({"spend_cents": [4]}))
    assert sorted(pl.read_parquet(str(path))["spend_cents"][0] for path in data.iterdir()) == [3, 4]


def test_readers_beside_a_writer_always_see_a_whole_partition(table: PartitionedTable) -> None:
    root, done, odd = table.folder.parent, threading.Event(), []
    publish(root, OLD)

    def keep_reading() -> None:
        while not done.is_set():
            seen = table.read(DAY, verify=True)
            if not (seen.equals(OLD) or seen.equals(NEW)):
                odd.append(seen)

    reader = threading.Thread(target=keep_reading)
    reader.start()
    for _ in range(15):
        publish(root, NEW)
        publish(root, OLD)
    done.set()
    reader.join()
    assert odd == []
    assert table.read(DAY).equals(OLD)


def test_a_file_cut_short_is_corruption(table: PartitionedTable) -> None:
    publish(table.folder.parent, OLD)
    published = table.require(DAY)
    published.path.write_bytes(published.path.read_bytes()[:-7])
    with pytest.raises(LakeCorruption, match="bytes"):
        table.read(DAY)
    with pytest.raises(LakeCorruption, match="bytes"):
        table.scan([DAY])


def test_a_changed_byte_is_found_on_demand(table: PartitionedTable) -> None:
    publish(table.folder.parent, OLD)
    path = table.require(DAY).path
    content = bytearray(path.read_bytes())
    content[10] ^= 1
    path.write_bytes(bytes(content))
    with pytest.raises(LakeCorruption, match="digest"):
        table.read(DAY, verify=True)


def test_a_file_changed_between_staging_and_publishing_is_not_published(table: PartitionedTable) -> None:
    staged = table.stage(DAY, NEW)
    staged.path.write_bytes(b"x" * staged.size)
    with pytest.raises(LakeCorruption, match="staged"):
        table.publish(staged)
    assert table.published(DAY) is None


def test_a_published_file_that_is_gone_is_corruption_and_not_an_empty_table(table: PartitionedTable) -> None:
    publish(table.folder.parent, OLD)
    table.require(DAY).path.unlink()
    with pytest.raises(LakeCorruption, match="gone"):
        table.read(DAY)


@pytest.mark.parametrize(
    "pointer",
    [b"", b"{", b"[]", b'{"format_version": 2}', b'{"format_version": 1, "sha256": "x"}', b'{"format_version": "1"}'],
)
def test_a_torn_or_foreign_pointer_is_refused(table: PartitionedTable, pointer: bytes) -> None:
    publish(table.folder.parent, OLD)
    (table.folder / "published" / f"{DAY}.json").write_bytes(pointer)
    with pytest.raises(LakeCorruption):
        table.published(DAY)
    publish(table.folder.parent, NEW)
    assert table.read(DAY, verify=True).equals(NEW)


def test_a_pointer_cannot_lead_out_of_its_table(table: PartitionedTable) -> None:
    publish(table.folder.parent, OLD)
    pointer = table.folder / "published" / f"{DAY}.json"
    stated = json.loads(pointer.read_text())
    pointer.write_text(json.dumps({**stated, "sha256": "../../../etc/passwd"}))
    with pytest.raises(LakeCorruption, match="another file"):
        table.published(DAY)


@pytest.mark.parametrize("name", ["", "..", "../x", "a/b", "/etc", ".hidden", "a\0b", "a\n", "x" * 101, "é", "a b"])
def test_a_hostile_name_is_refused_wherever_it_comes_in(table: PartitionedTable, name: str) -> None:
    with pytest.raises(LakeNameRefused):
        PartitionedTable(table.folder, name)
    with pytest.raises(LakeNameRefused):
        table.stage(name, OLD)
    with pytest.raises(LakeNameRefused):
        table.read(name)
    assert files(table) == []


def test_the_same_table_lives_on_an_object_store() -> None:
    root = UPath("memory://lake-test")
    publish(root, OLD)
    publish(root, NEW)
    table = PartitionedTable(root, "household")
    assert table.partitions() == [DAY]
    assert table.read(DAY, verify=True).equals(NEW)
    assert table.scan([DAY]).collect().equals(NEW)
    assert table.set_aside(table.stage(DAY, OLD), "why").exists()
