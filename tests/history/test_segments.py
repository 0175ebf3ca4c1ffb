import os
import stat

from dsv4_tp.history import Segments, ends_at, read_piece


def whole(folder, since=0, most=7):
    """All that can be read from an offset on, piece by piece: what was missed, and the bytes."""
    missed, data = 0, b""
    while (piece := read_piece(folder, "log", since, most)).data:
        missed, data, since = missed + piece.missed, data + piece.data, piece.end
    return missed, data


def test_what_was_written_is_read_from_any_offset(tmp_path):
    log = Segments(tmp_path, "log", limit_bytes=1000)
    log.write(b"one\n")
    log.write(b"two\n")
    assert whole(tmp_path) == (0, b"one\ntwo\n")
    assert whole(tmp_path, since=4) == (0, b"two\n")
    assert whole(tmp_path, since=8) == (0, b"")
    assert ends_at(tmp_path, "log") == 8
    assert [stat.S_IMODE(file.stat().st_mode) for file in tmp_path.iterdir()] == [0o600]


def test_the_bound_holds_and_what_is_dropped_is_counted(tmp_path):
    log = Segments(tmp_path, "log", limit_bytes=100)
    written = b"".join(b"%09d\n" % number for number in range(50))
    for line in written.splitlines(keepends=True):
        log.write(line)
        kept = sum(file.stat().st_size for file in tmp_path.iterdir())
        assert kept <= 100
    missed, data = whole(tmp_path)
    assert (missed, missed + len(data)) == (500 - len(data), 500)
    assert data == written[missed:]
    assert len(data) >= 50
    assert whole(tmp_path, since=495) == (0, written[495:])
    assert ends_at(tmp_path, "log") == 500


def test_a_later_writer_goes_on_and_another_log_is_left_alone(tmp_path):
    (tmp_path / "log.old.0").write_bytes(b"of another log")
    for number in range(40):
        log = Segments(tmp_path, "log", limit_bytes=100)
        log.write(b"%09d\n" % number)
        log.close()
    missed, data = whole(tmp_path)
    assert missed + len(data) == 400
    assert data.endswith(b"000000039\n")
    assert (tmp_path / "log.old.0").exists()


def test_a_process_that_prints_by_itself_is_given_another_file_in_time(tmp_path):
    log = Segments(tmp_path, "log", limit_bytes=100)
    for _ in range(30):
        os.write(log.handle(), b"123456789\n")
    missed, data = whole(tmp_path)
    assert missed + len(data) == 300
    assert 50 <= len(data) <= 110


def test_a_place_that_cannot_be_written_costs_the_words_only(tmp_path, capsys):
    log = Segments(tmp_path / "nowhere", "log", limit_bytes=100)
    log.write(b"lost")
    log.write(b"lost")
    assert capsys.readouterr().err.count("log-not-kept") == 1
