"""What a run folder may hold: plain files, rows as declared, and what a power cut leaves."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from tests.crafted_runs import GENERATE, SHIFT, generated_run, shift_run
from urial_local.base.errors import RunError, UsageError
from urial_local.records import disk, runlog
from urial_local.records.generated import Generated
from urial_local.records.merge import merge_runs
from urial_local.records.runlog import RunLog
from urial_local.records.runs import RunRows, latest_rows, read_run, read_token_texts
from urial_local.tasks.generate.job import KEY as GENERATE_KEY
from urial_local.tasks.shift.record import KEY as SHIFT_KEY
from urial_local.tasks.shift.record import Answer
from urial_local.tasks.shift.results import ShiftRun, write_summary

KEY = ("id",)
CONFIG = {"task": "x", "shard": None}


def row_of(path: Path, number: int) -> dict[str, Any]:
    return json.loads(path.read_text().splitlines()[number])


def change_row(folder: Path, number: int, change: Any) -> None:
    """`change` a row in place, and write it back."""
    path = folder / "rows.jsonl"
    lines = path.read_text().splitlines()
    row = json.loads(lines[number])
    change(row)
    lines[number] = json.dumps(row)
    path.write_text("\n".join(lines) + "\n")


# --- plain files ---------------------------------------------------------------------------------


def opened(folder: Path, name: str) -> None:
    """By what reads or writes the file of that name."""
    if name == "tokens-a.json":
        write_summary(ShiftRun(folder))
    else:
        RunLog(folder, SHIFT, SHIFT_KEY, Answer.read).close()


@pytest.mark.parametrize("name", ["run.json", "rows.jsonl", "rows.torn", "tokens-a.json"])
@pytest.mark.parametrize("kind", ["a symbolic link", "a pipe", "a folder"])
def test_only_plain_files_are_read_or_written(name, kind, tmp_path):
    folder, victim = tmp_path / "run", tmp_path / "victim"
    shift_run(folder)
    victim.write_text('["mine"]')
    path = folder / name
    path.unlink(missing_ok=True)
    if kind == "a pipe":
        os.mkfifo(path)
    elif kind == "a folder":
        path.mkdir()
    else:
        path.symlink_to(victim)
    if name == "rows.torn":
        with (folder / "rows.jsonl").open("ab") as rows:
            rows.write(b"{torn")
    with pytest.raises(RunError, match=f"{name} is {kind}"):
        opened(folder, name)
    assert victim.read_text() == '["mine"]'


def test_the_owner_of_a_lock_is_written_beside_no_link(tmp_path):
    victim = tmp_path / "victim"
    victim.write_text("mine")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "run.owner").symlink_to(victim)
    RunLog(tmp_path / "run", CONFIG, KEY).close()
    assert victim.read_text() == "mine"


def test_merging_follows_no_link(tmp_path):
    """What a link of a stranger's run leads to does not end up in the merged one."""
    secret = tmp_path / "secret"
    secret.write_text('["secret"]')
    shift_run(tmp_path / "a")
    (tmp_path / "a" / "tokens-b.json").symlink_to(secret)
    with pytest.raises(RunError, match=r"tokens-b\.json is a symbolic link"):
        merge_runs(tmp_path / "m", [tmp_path / "a"], SHIFT_KEY, Answer.read)
    assert not (tmp_path / "m" / "tokens-b.json").exists()


def test_pages_and_figures_take_the_place_of_links(tmp_path):
    pytest.importorskip("matplotlib")
    from urial_local.cli.plumbing.shift_results import finish

    victim = tmp_path / "victim"
    victim.write_text("mine")
    shift_run(tmp_path / "run")
    (tmp_path / "run" / "figures").mkdir()
    for name in ("summary.json", "report.html", "positions.csv", "figures/kl.svg"):
        (tmp_path / "run" / name).symlink_to(victim)
    finish(tmp_path / "run", csv=True, figures=True)
    assert victim.read_text() == "mine"
    assert "</svg>" in (tmp_path / "run" / "figures" / "kl.svg").read_text()


def test_judgements_go_into_no_link_that_came_with_the_run(tmp_path):
    from urial_local.cli.evaluate import default_folder

    generated_run(tmp_path / "run")
    (tmp_path / "run" / "judged-j").symlink_to(tmp_path)
    with pytest.raises(UsageError, match="is a symbolic link"):
        default_folder(str(tmp_path / "run"), "j", "auto")


def test_files_and_lines_have_an_end(tmp_path, monkeypatch):
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b'{"id":"1"}\n' + b" " * 200 + b"\n")
    lines = disk.whole_lines(path, limit=100)
    assert next(lines) == (1, 0, b'{"id":"1"}\n')
    with pytest.raises(RunError, match="line 2: more than"):
        next(lines)
    with pytest.raises(RunError, match="has more than"):
        disk.read_plain(path, limit=100)
    monkeypatch.setattr(runlog, "MAX_ROW", 100)
    with (
        RunLog(tmp_path / "run", CONFIG, KEY) as log,
        pytest.raises(RunError, match="more than a run can hold"),
    ):
        log.append({"id": "1", "text": "x" * 100})


@pytest.mark.parametrize("depth", [101, 5_000, 200_000])
def test_deep_json_is_told(depth, tmp_path):
    RunLog(tmp_path, CONFIG, KEY).close()
    deep = '{"x":' * depth + "1" + "}" * depth
    (tmp_path / "rows.jsonl").write_text(f'{{"id":"1","x":{deep}}}\n')
    with pytest.raises(RunError, match=r"rows\.jsonl, line 1: .*(deep|deeply)"):
        RunLog(tmp_path, CONFIG, KEY)
    (tmp_path / "run.json").write_text(f'{{"format":1,"config":{deep}}}')
    with pytest.raises(UsageError, match=r"run\.json.*(deep|deeply)"):
        read_run(tmp_path)


def test_what_a_dataset_nests_can_be_read_back(tmp_path):
    """Rows keep a dataset's fields, so datasets have the lower limit."""
    from urial_local.records.sources import open_source, read_rows

    path = tmp_path / "q.jsonl"
    rows = [{"query": "q", "x": json.loads("[" * n + "]" * n)} for n in (90, 110)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    with open_source(str(path)) as source:
        one, other = read_rows(source)
    assert not one.error
    assert "nested too deeply" in other.error
    error = {"id": "1", "number": 0, "error": "e", "fields": dict(one.fields)}
    with RunLog(tmp_path / "run", GENERATE, GENERATE_KEY, Generated.read) as log:
        log.append(error)
    (read,) = latest_rows(tmp_path / "run", GENERATE_KEY, Generated.read)
    assert read.fields == one.fields


# --- what a power cut leaves ---------------------------------------------------------------------


@pytest.fixture
def synced(monkeypatch):
    """Counts how often files and folders are brought to the disk."""
    found: list[str] = []
    real = os.fsync

    def counted(handle: int) -> None:
        found.append(os.readlink(f"/proc/self/fd/{handle}"))
        real(handle)

    monkeypatch.setattr(os, "fsync", counted)
    if not Path("/proc/self/fd").exists():
        pytest.skip("needs /proc to tell files apart")
    return found


def test_a_run_reaches_the_disk(tmp_path, synced, monkeypatch):
    """run.json and the folders at once, rows once in a while and at the end."""
    folder = tmp_path / "run"
    with RunLog(folder, CONFIG, KEY) as log:
        assert str(tmp_path) in synced
        assert str(folder) in synced
        assert any("run.json" in name for name in synced)
        synced.clear()
        for i in range(100):
            log.append({"id": str(i)})
        assert len(synced) < 50, "not with every row"
        monkeypatch.setattr(runlog, "SYNC_SECONDS", 0.0)
        synced.clear()
        log.append({"id": "x"})
        assert synced == [str(log.rows_path)]
        synced.clear()
    assert synced == [str(folder / "rows.jsonl")]


def test_a_disk_that_fails_at_the_end_is_told(tmp_path, monkeypatch):
    def fails(handle: int) -> None:
        raise OSError(5, "Input/output error")

    log = RunLog(tmp_path, CONFIG, KEY)
    monkeypatch.setattr(os, "fsync", fails)
    with pytest.raises(RunError, match="do not reach the disk: Input/output error"):
        log.close()
    monkeypatch.undo()
    RunLog(tmp_path, CONFIG, KEY).close()  # and the lock was given back


def test_an_empty_run_json(tmp_path):
    (tmp_path / "run.json").write_bytes(b"")
    with pytest.raises(UsageError, match=r"run\.json is empty"):
        read_run(tmp_path)
    with RunLog(tmp_path, CONFIG, KEY) as log:  # nothing was made yet
        log.append({"id": "1"})
    (tmp_path / "run.json").write_bytes(b"")
    with pytest.raises(UsageError, match=r"run\.json is empty") as caught:
        RunLog(tmp_path, CONFIG, KEY)
    assert "--limit 1 and another -o" in caught.value.hint
    # As the hint says: the description of the same command brings the rows back.
    RunLog(tmp_path / "other", CONFIG, KEY).close()
    (tmp_path / "run.json").write_bytes((tmp_path / "other" / "run.json").read_bytes())
    with RunLog(tmp_path, CONFIG, KEY) as log:
        assert log.has("1")


# --- rows of runs --------------------------------------------------------------------------------


def set_first(name: str, value: Any) -> Any:
    """A change of the first entry of a column in the context urial."""
    return lambda row: row["contexts"]["urial"][name].__setitem__(0, value)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda r: r.update(answer_ids=[]), "answer_ids must not be empty"),
        (lambda r: r["answer_ids"].append(1), "aligned_rank must have 7 entries as answer_ids"),
        (lambda r: r["answer_ids"].__setitem__(0, 99), "token id 99, and tokens-a.json has 40"),
        (lambda r: r["contexts"]["urial"]["js"].pop(), r"contexts\.urial\.js must have 6 entries"),
        (set_first("js", None), r"contexts\.urial\.js\[0\] must be a number, not null"),
        (set_first("status", 16), r"status\[0\] must be from 0 to 15"),
        (set_first("base_rank", 0), r"contexts\.urial\.base_rank\[0\] must be 1 or more"),
        (lambda r: r["contexts"].pop("urial"), "contexts must be zero-shot, urial"),
        (lambda r: r["contexts"].update(x=r["contexts"]["urial"]), "contexts must be zero-shot"),
        (lambda r: r.update(aligned="b"), "aligned must be one of a, not 'b'"),
        (lambda r: r["noise_floor"]["kl_base_other"].__setitem__(0, None), r"other\[0\] must be a"),
        (lambda r: r["batch_shape"].update(status=[0] * 7), "batch_shape must have at most 6"),
        (lambda r: r["batch_shape"]["kl_base_aligned"].__setitem__(0, None), r"d\[0\] must be"),
        (lambda r: r["batch_shape"]["base_rank"].pop(), r"batch_shape\.base_rank must have 4"),
        (lambda r: r.update(tags={"task": "math"}), r"tags\.task must be a list, not text"),
    ],
)  # fmt: skip
def test_rows_of_a_shift_run_hold_together(change, said, tmp_path):
    shift_run(tmp_path)
    change_row(tmp_path, 0, change)
    with pytest.raises(RunError, match=rf"rows\.jsonl, line 1: .*{said}"):
        write_summary(ShiftRun(tmp_path))


def test_contexts_are_read_in_the_order_of_the_configuration(tmp_path):
    """The page tells them apart by their place."""
    shift_run(tmp_path)
    before = [list(a.contexts) for a in ShiftRun(tmp_path)]
    change_row(tmp_path, 1, lambda r: r.update(contexts=dict(reversed(r["contexts"].items()))))
    assert list(row_of(tmp_path / "rows.jsonl", 1)["contexts"]) == ["urial", "zero-shot"]
    assert [list(a.contexts) for a in ShiftRun(tmp_path)] == before


@pytest.mark.parametrize("name", ["x/../../secret", "", "a\0b", "x" * 300])
def test_a_models_name_leads_nowhere_else(name, tmp_path):
    shift_run(tmp_path)
    info = json.loads((tmp_path / "run.json").read_text())
    info["config"]["aligned"][0]["name"] = name
    (tmp_path / "run.json").write_text(json.dumps(info))
    with pytest.raises(UsageError, match=r"config\.aligned\[0\]\.name must be a plain name"):
        ShiftRun(tmp_path)


def test_shards_of_a_run_are_few_enough_to_name(tmp_path):
    generated_run(tmp_path)
    info = json.loads((tmp_path / "run.json").read_text())
    for wrong in ("1/999999999999999999", "0/2", "3/2", "1", "a/b", "¹/2"):
        info["config"]["shard"] = wrong
        (tmp_path / "run.json").write_text(json.dumps(info))
        with pytest.raises(UsageError, match=r"config\.shard must be a shard such as 2/8"):
            read_run(tmp_path)


def test_a_wrong_row_is_named_before_work_begins(tmp_path):
    generated_run(tmp_path)
    change_row(tmp_path, 2, lambda r: r["turns"][1].update(answer=5))
    said = r"rows\.jsonl, line 3: turns\[1\]\.answer must be text, not a number"
    with pytest.raises(RunError, match=said):
        RunLog(tmp_path, GENERATE, GENERATE_KEY, Generated.read)
    with pytest.raises(RunError, match=said):
        list(RunRows(tmp_path, GENERATE_KEY, Generated.read))


def test_files_of_tokens(tmp_path):
    path = tmp_path / "tokens-a.json"
    for text, said in (
        ("{}", "must be a list"),
        ('["a", 1]', r"tokens\[1\] must be text"),
        ("[", "JSON"),
    ):
        path.write_text(text)
        with pytest.raises(RunError, match=said):
            read_token_texts(path)
