import pytest

from dsv4_tp.errors import PreflightError
from dsv4_tp.history import (
    Entry,
    Segments,
    Source,
    entry_from_json,
    entry_to_json,
    host_folder,
    launch_folder,
    launches_of,
    new_launch,
    open_launch,
    read_entries,
    sources,
)


def test_launches_are_found_by_their_cluster_in_their_order(tmp_path):
    names = [new_launch("lab", 1e9), new_launch("b-1.x", 1e9 + 1), new_launch("lab", 1e9 + 2)]
    assert names[0] == "20010909T014640Z-lab"
    for launch in names[::-1]:
        with open_launch(tmp_path, launch) as folder:
            (folder / "events.0").touch()
    (tmp_path / "launches" / "something else").mkdir()
    assert launches_of(tmp_path, None) == names
    assert launches_of(tmp_path, "lab") == [names[0], names[2]]
    assert launches_of(tmp_path, "la") == []


def test_old_launches_are_forgotten_but_not_those_that_run(tmp_path):
    first = new_launch("long", 1e9)
    with open_launch(tmp_path, first):
        for second in range(1, 30):
            with open_launch(tmp_path, new_launch("lab", 1e9 + second)) as folder:
                (folder / "events.0").touch()
        assert launches_of(tmp_path, "long") == [first]
        assert 5 < len(launches_of(tmp_path, "lab")) < 20
        assert launches_of(tmp_path, None)[-1] == new_launch("lab", 1e9 + 29)


def test_a_launch_that_came_to_nothing_leaves_nothing(tmp_path):
    with open_launch(tmp_path, new_launch("lab", 1e9)):
        pass
    assert launches_of(tmp_path, None) == []


@pytest.mark.parametrize("bad", ["", "..", "x/../y", "20010909T014640Z-../x", "a b"])
def test_names_that_lead_elsewhere_are_refused(tmp_path, bad):
    with pytest.raises(PreflightError):
        launch_folder(tmp_path, bad)
    with pytest.raises(PreflightError):
        host_folder(tmp_path, new_launch("lab", 0), bad)


def test_the_logs_of_a_host(tmp_path):
    for name in ("epoch-10.rank-0.0", "epoch-2.rank-1.0", "epoch-2.rank-1.512", "agent.0", "junk"):
        (tmp_path / name).touch()
    assert sources(tmp_path) == [Source(), Source(2, 1), Source(10, 0)]


def entry(seq):
    return Entry(seq, 1.5, "rank-lost", 2, "a line", "b", 1, {"last_stderr": "two\nlines"})


def test_entries_come_back_from_their_file_and_a_gap_is_told(tmp_path):
    assert entry_from_json(entry_to_json(entry(7))) == entry(7)
    log = Segments(tmp_path, "events", limit_bytes=2000)
    for seq in range(1, 101):
        log.write(f"{entry_to_json(entry(seq))}\n".encode())
    log.write(b'{"seq": 101, "ti')  # as a crash leaves it
    missed, kept = read_entries(tmp_path, "events", since_seq=0)
    assert (missed + 1, kept[-1].seq) == (kept[0].seq, 100)
    assert missed > 0
    assert read_entries(tmp_path, "events", since_seq=98)[0] == 0
    assert [each.seq for each in read_entries(tmp_path, "events", since_seq=98)[1]] == [99, 100]
