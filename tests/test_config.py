"""Settings: what is accepted, where paths lead, and how mistakes are reported."""

import json
import tomllib
from pathlib import Path

import pytest
from conftest import assert_not_imported
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from kft import backend, config
from kft.config import Config, DataConfig, TrainConfig
from kft.errors import KftError

MINIMAL = {"data": {"train": "/films.csv"}}


def mistakes_of(*overrides: str, **sections) -> KftError:
    """The mistake in minimal settings with overrides or other sections."""
    with pytest.raises(KftError) as caught:
        config.parse(MINIMAL | sections, overrides)
    return caught.value


def test_the_example_of_the_style_guide(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "configs"
    folder.mkdir()
    text = '[data]\ntrain = "a.csv"\n[train]\nepoch = 3\n[model]\nmax_length = "128"\n'
    (folder / "bad.toml").write_text(text)
    with pytest.raises(KftError) as caught:
        config.load("configs/bad.toml")
    lines = str(caught.value).split("\n")
    assert lines[0] == "configs/bad.toml: 2 to fix"
    assert sorted(lines[1:3]) == [
        "  `model.max_length` must be a whole number, got: '128'",
        "  `train.epoch` is not a setting, did you mean `epochs`?",
    ]
    assert lines[3:] == ["", "hint: `kft config --schema` lists every setting with its default"]


@pytest.mark.parametrize(
    ("override", "message"),
    [
        # A name that is no setting.
        ("train.epoch=3", "`train.epoch` is not a setting, did you mean `epochs`?"),
        ("epochs=3", "`epochs` is not a setting, did you mean `train.epochs`?"),
        ("trainn.epochs=3", "`trainn` is not a setting, did you mean `train`?"),
        ("data.max_length=9", "`data.max_length` is not a setting, did you mean `model.max_length`?"),
        ("zzz.yyy=3", "`zzz` is not a setting"),
        # A value of another kind.
        ("train.epochs=3.0", "`train.epochs` must be a whole number, got: 3.0"),
        ("train.epochs=true", "`train.epochs` must be a whole number, got: true"),
        ('train.epochs="3"', "`train.epochs` must be a whole number, got: '3'"),
        ("train.epochs=", "`train.epochs` must be a whole number, got: ''"),
        ("train.epochs=2020-01-01", "`train.epochs` must be a whole number, got: 2020-01-01"),
        ("train.epochs={a=1}", "`train.epochs` must be a whole number, got: the table {a}"),
        ("train.epochs.a=1", "`train.epochs` must be a whole number, got: the table {a}"),
        ("train=3", "`train` must be a table of settings, got: 3"),
        ("train=[3]", "`train` must be a table of settings, got: [3]"),
        ("data.header=1", "`data.header` must be true or false, got: 1"),
        ("data.train=1", "`data.train` must be a string in quotes or a list, got: 1"),
        ("data.train=", "`data.train` must not be empty, got: ''"),
        ("model.preset=", "`model.preset` must not be empty, got: ''"),
        # A number outside its limits.
        ("train.epochs=0", "`train.epochs` must be at least 1, got: 0"),
        ("train.learning_rate=0", "`train.learning_rate` must be more than 0, got: 0"),
        ("train.learning_rate=nan", "`train.learning_rate` must be a finite number, got: nan"),
        ("train.learning_rate=-inf", "`train.learning_rate` must be a finite number, got: -inf"),
        ("train.seed=2147483648", "`train.seed` must be less than 2147483648, got: 2147483648"),
        ("model.max_length=2", "`model.max_length` must be at least 3, got: 2"),
        ("model.dropout=1", "`model.dropout` must be less than 1, got: 1"),
        ("data.delimiter=;;", "`data.delimiter` must be 1 character long, got: ';;'"),
        # A name that is none of those there are.
        (
            "backend=pytorch",
            "`backend` must be 'jax', 'torch' or 'tensorflow', got: 'pytorch', did you mean `torch`?",
        ),
        (
            "train.optimizer=lion",
            "`train.optimizer` must be 'adam', 'adamw', 'sgd' or one of optax's such as 'optax:lion', got: 'lion'",
        ),
        # Settings that take one of several kinds are one mistake.
        ("train.class_weight=3", "`train.class_weight` must be 'balanced' or a table, got: 3"),
        (
            "train.class_weight=balancd",
            "`train.class_weight` must be 'balanced' or a table, got: 'balancd', did you mean `balanced`?",
        ),
        ("train.class_weight={}", "`train.class_weight` must be 'balanced' or a table, got: the table {}"),
        ("train.class_weight.a=x", "`train.class_weight.a` must be a number, got: 'x'"),
        ("train.class_weight.a=-1", "`train.class_weight.a` must be at least 0, got: -1"),
        ("data.text=1.5", "`data.text` must be a string in quotes or a whole number, got: 1.5"),
        ("data.text=true", "`data.text` must be a string in quotes or a whole number, got: true"),
        ("data.text={a=1}", "`data.text` must be a string in quotes or a whole number, got: the table {a}"),
        ("data.label_names=3", "`data.label_names` must be a table, got: 3"),
        ("data.label_names.a=1", "`data.label_names.a` must be a string in quotes, got: 1"),
        # Settings that contradict each other.
        ("data.text_pair=text", "`data.text_pair` is the same column as `data.text`: 'text'"),
        ("data.label=text", "`data.label` is the same column as a text: 'text'"),
        ("train.momentum=0.9", "`train.momentum` needs `train.optimizer` = \"sgd\", got: 'adamw'"),
        (
            "train.loss=mse",
            '`train.loss` = "mse" is not for classification, which takes cross_entropy or focal',
        ),
    ],
)
def test_a_mistake_is_one_line(override, message):
    error = mistakes_of(override)
    first, line = error.message.split("\n")
    assert first == "settings and --set: 1 to fix"
    assert line.startswith(f"  {message}")
    assert error.hint == "`kft config --schema` lists every setting with its default"


@pytest.mark.parametrize(
    "override", ["train.epochs", "=3", "train.=3", ".train=3", "train..epochs=3", "", "a b"]
)
def test_an_override_that_is_none(override):
    error = mistakes_of(override)
    assert error.message == f"--set {override}: must look like train.epochs=2"
    assert error.hint


def test_all_mistakes_are_reported_at_once():
    error = mistakes_of("train.epoch=1", "data.text=[1]", "backend=x", "train.class_weight=3")
    assert error.message.startswith("settings and --set: 4 to fix\n")
    assert len(error.message.split("\n")) == 5


def test_contradictions_are_reported_at_once():
    error = mistakes_of(
        "task=regression", "train.loss=cross_entropy", "split.method=stratified", "train.label_smoothing=0.1"
    )
    assert error.message.startswith("settings and --set: 3 to fix\n")


def test_numbered_columns():
    error = mistakes_of("data.header=false")
    assert error.message.count("must be a column number (from 0) where `data.header` is false") == 2
    parsed = config.parse(MINIMAL, ["data.header=false", "data.text=1", "data.label=0"])
    assert (parsed.data.text, parsed.data.label) == (1, 0)


def test_settings_without_data():
    error = mistakes_of("task=regression", data={})
    assert "`data` names no examples: set `data.train`" in error.message


class TestOverrides:
    @pytest.mark.parametrize(
        ("override", "name", "value"),
        [
            ("text=body", "text", "body"),
            ("text = body ", "text", "body"),
            ('text="a b"', "text", "a b"),
            ("text=it's", "text", "it's"),
            ("text=[half", "text", "[half"),
            ("text=a=b", "text", "a=b"),
            ("text=0", "text", 0),
            ('text="0"', "text", "0"),
            ("delimiter=;", "delimiter", ";"),
            ('delimiter="\\t"', "delimiter", "\t"),
            ("header=false", "header", False),
            ("max_examples=1_000", "max_examples", 1000),
            ("label_names={a = 'x', b = 'y'}", "label_names", {"a": "x", "b": "y"}),
            ("label_names.schön=gut", "label_names", {"schön": "gut"}),
            ('label_names."a.b=c"=x', "label_names", {"a.b=c": "x"}),
        ],
    )
    def test_values_are_toml_or_bare_words(self, override, name, value):
        numbers = ["data.text=0", "data.label=1"] if name == "header" else []
        parsed = config.parse(MINIMAL, [*numbers, f"data.{override}"])
        assert getattr(parsed.data, name) == value

    def test_a_later_override_wins_and_tables_grow(self):
        overrides = ["train.epochs=3", "train.epochs=4", "train.class_weight.a=1", "train.class_weight.b=2.5"]
        parsed = config.parse(MINIMAL, overrides)
        assert parsed.train.epochs == 4
        assert parsed.train.class_weight == {"a": 1.0, "b": 2.5}

    def test_lines_do_not_smuggle_in_settings(self):
        assert "must be a whole number, got: '3\\nseed=4'" in mistakes_of("train.epochs=3\nseed=4").message

    def test_a_value_and_a_table(self):
        assert mistakes_of("train=4", "train.epochs=3").message.endswith(
            "`train` is set twice, as a value and as a table"
        )

    def test_other_data_replace_those_of_the_file(self):
        parsed = config.load(None, ["data.train=mine.csv"])
        assert parsed.data.source is None
        assert parsed.data.train == str(Path.cwd() / "mine.csv")
        parsed = config.parse({"data": {"train": "a.csv", "test": "b.csv"}}, ["data.source=bbc_news"])
        assert (parsed.data.train, parsed.data.test, parsed.data.source) == (None, None, "bbc_news")

    def test_both_at_once_are_a_mistake(self):
        assert "exclude each other" in mistakes_of("data.source=bbc_news", "data.train=a.csv").message


class TestPaths:
    def test_of_a_file_are_relative_to_it_and_of_overrides_to_the_current_folder(self, tmp_path, monkeypatch):
        here, elsewhere = tmp_path / "here", tmp_path / "there"
        for folder in (here, elsewhere, elsewhere / "preset", here / "preset"):
            folder.mkdir()
        (elsewhere / "c.toml").write_text(
            '[data]\ntrain = "a.csv"\ntest = "../b.csv"\n[model]\npreset = "preset"\n'
        )
        monkeypatch.chdir(here)
        parsed = config.load("../there/c.toml", ["data.validation=v.csv"])
        assert parsed.data.train == str(elsewhere / "a.csv")
        assert parsed.data.test == str(tmp_path / "b.csv")
        assert parsed.data.validation == str(here / "v.csv")
        assert parsed.model.preset == str(elsewhere / "preset")
        assert config.load("../there/c.toml", ["model.preset=preset"]).model.preset == str(here / "preset")

    def test_home(self, monkeypatch, tmp_path):
        monkeypatch.setenv("HOME", str(tmp_path))
        parsed = config.parse(MINIMAL, ["data.test=~/t.csv", "data.validation=~nobody-of-this-name/v.csv"])
        assert parsed.data.test == str(tmp_path / "t.csv")
        assert parsed.data.validation.endswith("~nobody-of-this-name/v.csv")

    def test_a_name_of_a_preset_stays_a_name(self):
        for name in ("bert_base_en", "hf://google/bert", "kaggle://a/b/c/d"):
            assert config.parse(MINIMAL, [f"model.preset={name}"]).model.preset == name


class TestFiles:
    def test_a_byte_order_mark_and_windows_line_ends(self, tmp_path):
        file = tmp_path / "c.toml"
        file.write_bytes(b'\xef\xbb\xbf[data]\r\ntrain = "a.csv"\r\n')
        assert config.load(file).data.train == str(tmp_path / "a.csv")

    @pytest.mark.parametrize(
        ("content", "message", "hint"),
        [
            (
                b"task = regression\n",
                "not valid TOML: Invalid value (at line 1, column 8)",
                "strings need quotes",
            ),
            (b"[data\n", "not valid TOML", "strings need quotes"),
            (b'[data]\ntrain = "a"\n[data]\n', "not valid TOML: Cannot declare", "strings need quotes"),
            (
                '[data]\ntrain = "caf\xe9"'.encode("latin-1"),
                "not UTF-8 text (byte 20)",
                "save the config as UTF-8",
            ),
            (b"", "c.toml: 1 to fix\n  `data` names no examples", "kft config --schema"),
        ],
    )
    def test_what_is_no_config(self, tmp_path, monkeypatch, content, message, hint):
        monkeypatch.chdir(tmp_path)
        Path("c.toml").write_bytes(content)
        with pytest.raises(KftError) as caught:
            config.load("c.toml")
        assert caught.value.message.startswith("c.toml: ")
        assert message in caught.value.message
        assert hint in caught.value.hint

    def test_data_instead_of_a_config(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        Path("films.csv").write_text("text,label\ngood,a\n")
        with pytest.raises(KftError) as caught:
            config.load("films.csv")
        assert "`kft init films.csv` writes one for these data; or --set data.train=" in caught.value.hint

    @pytest.mark.parametrize(
        ("name", "message", "hint"),
        [
            ("films", "no such config file", "did you mean `films.toml`?"),
            ("film.toml", "no such config file", "did you mean `films.toml`?"),
            ("bbc_nws", "no such config file", "did you mean `bbc_news`?"),
            ("nowhere/c.toml", "no such config file", "the built-in ones are"),
            (".", "is a folder, not a config file", "TOML file"),
            ("x" * 300, "cannot be read: File name too long", "TOML file"),
            ("~nobody-of-this-name/c.toml", "no such config file", "the built-in ones are"),
            ("", "is a folder", "TOML file"),
        ],
    )
    def test_a_file_that_is_not_there(self, tmp_path, monkeypatch, name, message, hint):
        monkeypatch.chdir(tmp_path)
        Path("films.toml").touch()
        with pytest.raises(KftError) as caught:
            config.load(name)
        assert message in caught.value.message
        assert hint in caught.value.hint

    def test_a_file_goes_before_a_built_in_config_of_its_name(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        Path("bbc_news").write_text('[data]\ntrain = "mine.csv"\n')
        assert config.load("bbc_news").data.train == str(tmp_path / "mine.csv")
        assert config.load(None).data.source == "bbc_news"

    @pytest.mark.parametrize("name", config.builtin())
    def test_built_in_configs_load_and_round_trip(self, name):
        parsed = config.load(name)
        assert config.parse(tomllib.loads(config.dump(parsed))) == parsed

    def test_a_mistake_in_an_override_names_the_built_in_config(self):
        with pytest.raises(KftError, match=r"^bbc_news and --set: 1 to fix"):
            config.load(None, ["train.epoch=3"])


def test_settings_are_frozen():
    parsed = config.parse(MINIMAL)
    with pytest.raises(ValidationError):
        parsed.train.epochs = 4


def values(field) -> st.SearchStrategy:
    """Values that a number of `TrainConfig` takes."""
    whole = st.integers(1, 10_000)
    share = st.floats(0, 0.99, allow_nan=False)
    return {int: whole, float: share.filter(bool), bool: st.booleans(), str: st.text(min_size=1)}[
        field.annotation
    ]


NEED_ANOTHER = ("momentum", "focal_gamma")  # settings that are refused alone
PLAIN = {
    n: f
    for n, f in TrainConfig.model_fields.items()
    if f.annotation in (int, float) and n not in NEED_ANOTHER
}
TEXT = st.text(st.characters(exclude_categories=["Cs"]), min_size=1)


@settings(max_examples=150, deadline=None)
@given(
    train=st.fixed_dictionaries({}, optional={n: values(f) for n, f in PLAIN.items()}),
    names=st.dictionaries(TEXT, TEXT, max_size=4),
    weight=st.none()
    | st.just("balanced")
    | st.dictionaries(TEXT, st.floats(0, 1e300), min_size=1, max_size=3),
    columns=st.tuples(TEXT, TEXT, TEXT).filter(lambda c: len(set(c)) == 3),
    delimiter=st.none() | st.characters(exclude_categories=["Cs"]),
    method=st.sampled_from(["stratified", "random", "hash", None]),
)
def test_what_is_dumped_is_read_back(train, names, weight, columns, delimiter, method):
    text, pair, label = columns
    data = {"train": "/a.csv", "text": text, "text_pair": pair, "label": label, "label_names": names}
    parsed = config.parse(
        {
            "data": data | {"delimiter": delimiter},
            "train": train | {"class_weight": weight},
            "split": {"method": method},
        }
    )
    assert config.parse(tomllib.loads(config.dump(parsed))) == parsed


def test_the_table_and_the_schema_hold_every_setting():
    rows = config.settings_table()
    names = [name for name, *_ in rows]
    sections = [n for n, f in Config.model_fields.items() if isinstance(f.annotation, type)]
    assert names[:2] == ["task", "backend"]
    assert (
        len(names)
        == len(set(names))
        == 2 + sum(len(Config.model_fields[s].annotation.model_fields) for s in sections)
    )
    assert all(all(row) for row in rows)
    by_name = {name: (kind, default) for name, kind, default, _ in rows}
    assert by_name["train.epochs"] == ("whole number", "3")
    assert by_name["data.header"] == ("true or false", "true")
    assert by_name["data.text"] == ("string | whole number", "text")
    assert by_name["train.class_weight"] == ("balanced | table", "-")
    assert by_name["split.method"] == ("stratified | random | hash", "-")
    schema = json.dumps(config.schema())
    assert all(f'"{name.split(".")[-1]}"' in schema for name in names)


def test_units_are_in_the_names():
    fractions = [n for n, *_ in config.settings_table() if "fraction" in n]
    assert fractions == ["split.validation_fraction", "split.test_fraction", "train.warmup_fraction"]
    assert DataConfig.model_fields["max_examples"].description.startswith("examples")


def test_reading_a_config_needs_nothing_heavy():
    code = "from kft import config; config.load()"
    assert_not_imported(code, "keras", "jax", "numpy", "polars", "tensorflow", "torch")


def test_a_package_that_an_extra_brings_is_a_mistake_with_the_line_that_mends_it():
    backend.need("json", "x")
    with pytest.raises(KftError, match=r"serving needs the package no-such\n\nhint: pip install 'kft\[x\]'"):
        backend.need("no_such", "x", "serving")


@pytest.mark.parametrize(
    ("data", "override", "line"),
    [
        (
            {"train": "a.csv", "validation": "b.csv", "test": "c.csv"},
            ["data.train=new.csv"],
            "config    data.train is of --set, data.validation and data.test still of the config: b.csv, c.csv\n",
        ),
        ({"train": "a.csv", "test": "c.csv"}, ["data.train=new.csv", "data.test=t.csv"], ""),
        ({"train": "a.csv"}, ["data.train=new.csv"], ""),
        ({"source": "bbc_news"}, ["data.train=new.csv"], ""),
        (
            {"train": "a.csv", "test": ["c.csv", "d.csv"]},
            ["data.source=glue/sst2"],
            "config    data.source of --set takes the place of data.train and data.test\n",
        ),
        ({"train": "a.csv", "test": "c.csv"}, ["train.epochs=2"], ""),
    ],
)
def test_data_of_the_command_line_and_of_the_config_are_not_mixed_silently(data, override, line, capsys):
    config.parse({"data": data}, override)
    assert capsys.readouterr().err == line


def test_an_older_run_kept_authors_together_by_another_name(tmp_path):
    file = tmp_path / "config.toml"
    file.write_text('[data]\ntrain = "a.csv"\ngroup = "author"\n')
    read = config.of_run(file)
    assert (read.data.group, read.split.group) == (None, "author")
    file.write_text('task = "choice"\n[data]\ntrain = "a.csv"\ngroup = "question"\n')
    assert config.of_run(file).data.group == "question"
    file.write_text('task = "chioce"\n')
    with pytest.raises(KftError, match="did you mean `choice`"):
        config.of_run(file)
