"""Run folders: making and opening them, whole files, and what stands in every JSON file."""

import errno
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import pytest
from safetensors import SafetensorError

from kft import runs
from kft.errors import KftError
from kft.runs import FIELDS, RunDir

FULL_DEVICE = Path("/dev/full")
needs_full_device = pytest.mark.skipif(not FULL_DEVICE.exists(), reason="this system has no /dev/full")


@pytest.fixture
def copied(tiny_run, tmp_path) -> RunDir:
    """A copy of the finished run, under another name."""
    shutil.copytree(tiny_run, tmp_path / "copied")
    return RunDir(tmp_path / "copied")


def names(value, path: tuple[str, ...] = ()) -> set[tuple[str, ...]]:
    """The names of all fields in a JSON value, each with those around it; `[]` for items."""
    if isinstance(value, dict):
        return {name for key, inner in value.items() for name in names(inner, (*path, key))}
    if isinstance(value, list):
        items = (*path[:-1], f"{path[-1]}[]")
        return {name for inner in value for name in names(inner, items)} or {items}
    return {path}


def is_documented(name: tuple[str, ...], fields: Iterable[str]) -> bool:
    def fits(part: str, wanted: str) -> bool:
        items = wanted.count("[]")
        return part.count("[]") == items and (part == wanted or wanted.removesuffix("[]" * items) == "*")

    return any(
        len(name) == len(wanted.split(".")) and all(map(fits, name, wanted.split("."))) for wanted in fields
    )


class TestFields:
    def documents(self, run: RunDir) -> dict[str, list]:
        """Every JSON file of a run and the values in it."""
        result = {
            name: [runs.read_json(run.path / name)] for name in FIELDS if not name.startswith("history.jsonl")
        }
        lines = [json.loads(line) for line in run.history.read_text("utf-8").splitlines()]
        for event in ("train", "evaluation"):
            result[f"history.jsonl, event {event}"] = [line for line in lines if line["event"] == event]
        assert sum(map(len, result.values())) == len(lines) + len(result) - 2
        return result

    def test_a_run_has_the_documented_fields_and_no_others(self, tiny_run):
        for name, values in self.documents(RunDir(tiny_run)).items():
            assert values, name
            fields = FIELDS[name]
            got = set().union(*map(names, values))
            strange = sorted(field for field in got if not is_documented(field, fields))
            assert not strange, f"{name} has fields that are not documented: {strange}"
            absent = [field for field in fields if not any(is_documented(f, [field]) for f in got)]
            # Not in a run of classes whose splits were all cut off one file with nothing dropped.
            absent = set(absent) - {"splits.*.dropped.*", "splits.*.values.*", "cut", "cut.folds", "cut.fold"}
            absent = {field for field in absent if not field.startswith("resumed[]")}
            other_runs = (
                "cut.group",
                "cut.time",
                "leaks.groups.",
                "cut.beginnings",
                "splits.*.label_sets",
                "*.confusions",
                "*.groups",
                "*.words.",
                "*.scheme",
                "splits.*.words.",
                "splits.*.entities.",
                "splits.*.answers.",
                "*.without_answer",
                "splits.*.tokens.windows",
            )
            absent = {field for field in absent if not field.startswith(other_runs)}
            absent = {field for field in absent if "question" not in field and "span_" not in field}
            absent -= {
                field
                for field in absent
                if field.startswith(("cut.beginnings.", "splits.*.label_sets.", "*.confusions[]."))
            }
            absent -= {"cut.group", "cut.time", "inputs.spans[][]", "sizes.more.*"}
            absent = {
                field for field in absent if not field.startswith("from_run.")
            }  # of a run that starts from a run
            assert not absent, f"{name} lacks documented fields: {absent}"

    def test_every_json_file_is_documented(self, tiny_run):
        files = {f.relative_to(tiny_run).as_posix() for f in tiny_run.rglob("*.json*")} | {"DONE"}
        files.remove("tokenizer.json")  # Hugging Face's own format
        assert files == {name.split(",")[0] for name in FIELDS}

    def test_every_field_has_a_meaning(self):
        assert all(meaning for fields in FIELDS.values() for meaning in fields.values())


class TestCreate:
    def test_makes_the_folder_and_its_parents(self, tmp_path):
        run = runs.create(tmp_path / "a" / "b")
        assert run.path == tmp_path / "a" / "b"
        assert list(run.path.iterdir()) == []

    def test_uses_a_folder_again_that_failed_before_its_first_step(self, tmp_path):
        run = runs.create(tmp_path / "r")
        run.config.write_text("")
        run.logs.mkdir()
        (run.logs / "events").touch()
        assert list(runs.create(run.path).path.iterdir()) == []

    @pytest.mark.parametrize(
        ("files", "message", "hint"),
        [
            (["DONE", "config.toml"], "holds a finished run, which is never overwritten", "--run"),
            (["model.weights.h5", "config.toml"], "holds an unfinished run", "kft train --resume"),
            (
                ["checkpoints/step-000000010.safetensors", "config.toml"],
                "holds an unfinished run",
                "--resume",
            ),
            (["thesis.doc"], "is not empty and holds no run", "--run"),
            ([".hidden"], "is not empty and holds no run", "--run"),
        ],
    )
    def test_leaves_what_it_finds(self, tmp_path, files, message, hint):
        for name in files:
            (tmp_path / name).parent.mkdir(exist_ok=True)
            (tmp_path / name).touch()
        before = sorted(tmp_path.rglob("*"))
        with pytest.raises(KftError) as caught:
            runs.create(tmp_path)
        assert caught.value.message == f"{tmp_path}: {message}"
        assert hint in caught.value.hint
        assert sorted(tmp_path.rglob("*")) == before

    @pytest.mark.parametrize(
        ("where", "message"),
        [
            ("file", "is a file, not a folder"),
            ("file/run", "cannot be written: a folder in its path is a file"),
            ("file/deep/run", "cannot be written: a folder in its path is a file"),
            ("x" * 300, "cannot be written: File name too long"),
            ("/proc/kft-run", "cannot be written: No such file or directory"),
        ],
    )
    def test_a_folder_that_cannot_be(self, tmp_path, where, message):
        (tmp_path / "file").write_text("kept")
        path = tmp_path / where
        with pytest.raises(KftError) as caught:
            runs.create(path)
        assert caught.value.message == f"{path}: {message}"
        assert caught.value.hint == "choose another folder with --run"
        assert (tmp_path / "file").read_text() == "kept"

    @pytest.mark.skipif(os.name != "posix", reason="permissions as POSIX has them")
    def test_a_folder_without_permission(self, tmp_path):
        tmp_path.chmod(0o755)
        closed = tmp_path / "closed"
        closed.mkdir(mode=0o700)
        code = (
            "import os, sys; from kft import runs; from kft.errors import KftError\n"
            "os.setuid(65534) if os.getuid() == 0 else os.chmod(sys.argv[1], 0o000)\n"
            "for action in (runs.create, runs.open_run):\n"
            "    try: action(sys.argv[1] + '/run')\n"
            "    except KftError as error: print(error.message.split(': ', 1)[1])\n"
        )
        done = subprocess.run([sys.executable, "-c", code, str(closed)], capture_output=True, text=True)
        closed.chmod(0o700)
        assert done.stdout.splitlines() == [
            "cannot be written: Permission denied",
            "cannot be read: Permission denied",
        ], done.stderr


class TestOpen:
    def test_a_copy_under_another_name(self, copied):
        assert runs.open_run(copied.path).path == copied.path

    @pytest.mark.parametrize("finished", [True, False])
    def test_what_is_no_run(self, tmp_path, finished):
        (tmp_path / "file").touch()
        for path, message in (
            (tmp_path / "none", "no such run folder"),
            (tmp_path / "file", "is a file, not a run folder"),
            (tmp_path, "holds no run (config.toml is missing)"),
        ):
            with pytest.raises(KftError) as caught:
                runs.open_run(path, finished=finished)
            assert caught.value.message == f"{path}: {message}"
            assert "`kft train` makes one" in caught.value.hint

    def test_an_unfinished_run(self, copied):
        copied.done.unlink()
        assert runs.open_run(copied.path, finished=False)
        with pytest.raises(KftError, match="training has not finished") as caught:
            runs.open_run(copied.path)
        assert caught.value.hint == f"go on with it: kft train --resume {copied.path}"

    @pytest.mark.parametrize("finished", [True, False])
    @pytest.mark.parametrize("written", [3, 0, "1", None])
    def test_another_format(self, copied, written, finished):
        runs.write_json(copied.model, runs.read_json(copied.model) | {"format": written})
        with pytest.raises(KftError) as caught:
            runs.open_run(copied.path, finished=finished)
        assert f"run format {written!r}, this kft reads formats up to 2" in caught.value.message
        assert caught.value.hint == "use the kft that wrote the run"

    @pytest.mark.parametrize("name", ["model.json", "labels.json", "tokenizer.json", "model.weights.h5"])
    def test_a_file_that_was_not_copied(self, copied, name):
        (copied.path / name).unlink()
        with pytest.raises(KftError) as caught:
            runs.open_run(copied.path)
        assert caught.value.message == f"{copied.path}: the run is not whole: missing {name}"
        assert caught.value.hint == "copy the whole run folder again, or train again"

    def test_every_sealed_file_is_watched(self, copied):
        sealed = runs.read_json(copied.done)["sha256"]
        assert set(sealed) >= {
            "config.toml",
            "model.json",
            "labels.json",
            "tokenizer.json",
            "model.weights.h5",
        }
        assert {f"splits/{n}.parquet" for n in ("validation", "test")} <= set(sealed)
        for name in sealed:
            file = copied.path / name
            whole = file.read_bytes()
            damages = [whole[: len(whole) // 2], b"\xff\x00garbage", b""]
            if name != "config.toml":
                damages += [whole[:-1], whole + b" "]
            for damage in damages:
                file.write_bytes(damage)
                with pytest.raises(KftError, match=f"{name}.*(damaged|must be)|(damaged|changed).*{name}"):
                    runs.open_run(copied.path)
            file.write_bytes(whole)
        runs.open_run(copied.path)

    def test_paths_and_backend_may_change(self, copied):
        text = copied.config.read_text()
        copied.config.write_text(
            text.replace('backend = "jax"', 'backend = "torch"').replace(
                'train = "/', 'test = "/t.csv"\ntrain = "/moved/'
            )
        )
        assert copied.config.read_text() != text
        runs.open_run(copied.path)
        changed = runs.settings_sha256(copied)
        copied.config.write_text(text)
        assert runs.settings_sha256(copied) == changed
        copied.config.write_text(text.replace("max_length = 16", "max_length = 8"))
        with pytest.raises(KftError, match="damaged or changed since training config.toml"):
            runs.open_run(copied.path)

    def test_splits_and_predictions_may_be_left_out(self, copied):
        shutil.rmtree(copied.path / "splits")
        copied.predictions("test").unlink()
        run = runs.open_run(copied.path)
        assert runs.had_split(run, "test")
        assert not runs.had_split(run, "train")

    @pytest.mark.parametrize(
        "content", ["", "[]", "{}", "null", "\xff", '{"sha256": 3}', '{"sha256": {"a": ']
    )
    def test_a_damaged_seal(self, copied, content):
        copied.done.write_text(content)
        with pytest.raises(KftError, match="DONE: is damaged") as caught:
            runs.open_run(copied.path)
        assert caught.value.hint


class TestReadLabels:
    @pytest.mark.parametrize(
        "content", [["a"], {"label": ["a"]}, {"labels": "ab"}, {"labels": [0, 1]}, {"labels": ["a", "a"]}]
    )
    def test_damaged(self, tmp_path, content):
        run = RunDir(tmp_path)
        runs.write_json(run.labels, content)
        with pytest.raises(KftError, match="labels.json: is damaged") as caught:
            runs.read_labels(run)
        assert caught.value.hint

    def test_a_config_that_is_none(self, tmp_path):
        run = RunDir(tmp_path)
        run.config.write_text("[train]\nepoch = 3\n")
        with pytest.raises(KftError, match="did you mean `epochs`") as caught:
            runs.read_config(run)
        assert (
            caught.value.hint
            == "put config.toml back as it was: copy the whole run folder again, or train again"
        )


class TestWriteWhole:
    def test_a_failure_leaves_the_old_file_and_nothing_else(self, tmp_path):
        file = tmp_path / "a.txt"
        file.write_text("old")

        def half(path: Path) -> None:
            path.write_text("ne")
            raise ValueError("a bug")

        with pytest.raises(ValueError, match="a bug"):
            runs.write_whole(file, half)
        assert file.read_text() == "old"
        assert list(tmp_path.iterdir()) == [file]

    @pytest.mark.parametrize(
        "error",
        [
            OSError(errno.ENOSPC, "No space left on device"),
            OSError(errno.EDQUOT, "Disk quota exceeded"),
            SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)"),
            OSError(
                "Can't synchronously write data (file write failed: errno = 28, error message = 'No space …')"
            ),
            RuntimeError("Unable to flush file's cached information (errno = 28)"),
        ],
    )
    def test_a_full_disk_as_each_library_reports_it(self, tmp_path, error):
        file = tmp_path / "new" / "a.txt"

        def write(path: Path) -> None:
            path.write_text("ha")
            raise error

        with pytest.raises(KftError) as caught:
            runs.write_whole(file, write)
        assert caught.value.message == f"{file}: cannot be written: no space left on the disk"
        assert caught.value.hint == "free some space, or choose another folder"
        assert list(file.parent.iterdir()) == []

    def test_a_folder_or_a_file_in_the_way(self, tmp_path):
        (tmp_path / "file").touch()
        for path, reason in (
            (tmp_path, "is a folder"),
            (tmp_path / "file" / "a.txt", "a folder in its path is a file"),
        ):
            with pytest.raises(KftError) as caught:
                runs.write_text(path, "x")
            assert caught.value.message == f"{path}: cannot be written: {reason}"
            assert caught.value.hint == "choose another folder, or check its permissions"

    def test_a_link_is_written_through(self, tmp_path):
        (tmp_path / "real.txt").write_text("old")
        (tmp_path / "link.txt").symlink_to("real.txt")
        runs.write_text(tmp_path / "link.txt", "new")
        assert (tmp_path / "real.txt").read_text() == "new"
        assert (tmp_path / "link.txt").is_symlink()

    def test_a_device_stays_a_device(self):
        runs.write_text(Path(os.devnull), "gone")
        assert not Path(os.devnull).is_file()

    def test_the_suffix_is_kept_for_libraries_that_go_by_it(self, tmp_path):
        seen = []
        runs.write_whole(
            tmp_path / "model.weights.h5", lambda aside: (seen.append(aside.name), aside.touch())
        )
        assert seen[0].endswith(".model.weights.h5")


@needs_full_device
def test_a_line_on_a_full_disk(tmp_path):
    (tmp_path / "history.jsonl").symlink_to(FULL_DEVICE)
    with pytest.raises(KftError, match="history.jsonl: cannot be written: no space left on the disk"):
        runs.append_line(tmp_path / "history.jsonl", "{}")


class TestJson:
    def test_numbers_that_are_not_finite_are_null(self, tmp_path):
        runs.write_json(tmp_path / "a.json", {"a": float("nan"), "b": [float("inf"), (1, "ä")]})
        assert (tmp_path / "a.json").read_text(
            "utf-8"
        ) == '{\n  "a": null,\n  "b": [\n    null,\n    [\n      1,\n      "ä"\n    ]\n  ]\n}\n'

    @pytest.mark.parametrize(
        ("content", "fields", "message"),
        [
            (None, (), "is missing"),
            (b"", (), "is damaged: Expecting value"),
            (b'{"a": 1', (), "is damaged: Expecting"),
            (b"\xff\xfe", (), "is damaged: 'utf-8' codec"),
            (b"[" * 100_000, (), "is damaged: maximum recursion depth"),
            (b"[1]", ("a",), "is damaged: must be a JSON object"),
            (b'{"a": 1}', ("a", "b"), "is damaged: lacks b"),
        ],
    )
    def test_damaged_files(self, tmp_path, content, fields, message):
        file = tmp_path / "a.json"
        if content is not None:
            file.write_bytes(content)
        with pytest.raises(KftError) as caught:
            runs.read_json(file, *fields)
        assert caught.value.message.startswith(f"{file}: {message}")
        assert caught.value.hint == runs.COPY_HINT

    def test_a_folder_instead_of_a_file(self, tmp_path):
        with pytest.raises(KftError, match="cannot be read: Is a directory"):
            runs.read_json(tmp_path)
