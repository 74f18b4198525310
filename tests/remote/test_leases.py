"""The lock of a run on an object store: one holder at a time, also after one was killed."""

import threading
import time

import gcsfs
import pytest
from object_store import serve

from scaling.errors import BusyError
from scaling.records import RunDirectory, leases


@pytest.fixture
def run(monkeypatch):
    """A run on a store; leases that are quick."""
    server, _ = serve()
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", f"http://127.0.0.1:{server.server_address[1]}")
    monkeypatch.setenv("FSSPEC_GCS_TOKEN", "anon")
    monkeypatch.setenv("GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT", "false")
    for name, seconds in (("EVERY", 0.04), ("GONE", 0.6), ("SETTLE", 0.1)):
        monkeypatch.setattr(leases, name, seconds)
    gcsfs.GCSFileSystem.clear_instance_cache()
    yield RunDirectory("gs://bucket/study/runs/one")
    gcsfs.GCSFileSystem.clear_instance_cache()
    server.shutdown()
    server.server_close()


def test_a_living_holder_is_named_and_what_it_gives_up_is_free(run):
    with run.lock():
        began = time.monotonic()
        with (
            pytest.raises(BusyError, match=r"runs/one is in use by process \d+ on \S+; wait"),
            run.lock(),
        ):
            pytest.fail("two hold one lease")
        assert time.monotonic() - began < leases.GONE
    began = time.monotonic()
    with run.lock():
        assert time.monotonic() - began < leases.GONE
    assert not (run.path / "lock").exists()


def test_of_many_that_find_a_dead_holder_one_at_a_time_has_it(run):
    (run.path / "lock").write_text("7 on gone 0123\n3")
    holding, most, had = [0], [0], [0]
    guard = threading.Lock()

    def want() -> None:
        while True:
            try:
                with run.lock():
                    with guard:
                        holding[0] += 1
                        most[0] = max(most[0], holding[0])
                    time.sleep(0.1)
                    with guard:
                        holding[0] -= 1
                        had[0] += 1
                    return
            except BusyError:
                time.sleep(0.02)

    threads = [threading.Thread(target=want) for _ in range(5)]
    began = time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=20)
    assert had == [5]
    assert most == [1]
    assert time.monotonic() - began > leases.GONE
