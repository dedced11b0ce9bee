"""In a notebook: a bar and the report stand below the cells, in a kernel of Jupyter's own."""

import html
import re

import pytest

from kft import report
from kft.errors import KftError

CELLS = [
    "from kft import config, evaluate, report, train",
    "settings = config.parse(SETTINGS)\nresult = train.train(settings, 'runs/films')",
    "evaluate.evaluate(result['run'])['metrics']['accuracy']",
    "report.show(result['run'])",
]


@pytest.fixture(scope="module")
def executed(tiny_settings, tmp_path_factory):
    """The cells with what they gave."""
    nbclient = pytest.importorskip("nbclient", reason="nbclient is not installed")
    pytest.importorskip("ipykernel", reason="ipykernel is not installed")
    import nbformat

    cells = [cell.replace("SETTINGS", repr(tiny_settings)) for cell in CELLS]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    folder = tmp_path_factory.mktemp("notebook")
    where = {"metadata": {"path": str(folder)}}
    nbclient.NotebookClient(notebook, timeout=240, kernel_name="python3", resources=where).execute()
    return folder, notebook.cells


def outputs_of(cell, kind: str) -> list[str]:
    """The outputs of a kind."""
    return [output["data"][kind] for output in cell.outputs if kind in output.get("data", {})]


def test_a_bar_for_each_epoch(executed):
    folder, cells = executed
    bars = outputs_of(cells[1], "text/html")
    ends = [re.search(r'value="(\d+)" max="(\d+)"', bar).groups() for bar in bars]
    assert len(bars) == 2 and all(done == total != "0" for done, total in ends)
    assert "epoch 1/2" in bars[0] and "epoch 2/2" in bars[1]
    assert re.search(r"<small>(\d+)/\1 · [\d:]+ · loss [\d.]+, [\d.]+ examples/s</small>", bars[1])


def test_nothing_looks_like_an_error(executed):
    folder, cells = executed
    streams = [output for cell in cells for output in cell.outputs if output.output_type == "stream"]
    assert not [output.text for output in streams if output.name == "stderr"]
    assert any("epoch 2/2: train loss" in output.text for output in streams)


def test_the_report_stands_below_the_cell(executed):
    folder, cells = executed
    (frame,) = outputs_of(cells[3], "text/html")
    page = (folder / "runs" / "films" / "report.html").read_text("utf-8")
    assert frame.startswith("<iframe") and html.escape(page) in frame
    assert float(outputs_of(cells[2], "text/plain")[0]) > 0.5


def test_show_finds_the_page_of_whatever_the_folder_is(tmp_path):
    (tmp_path / "suite.html").write_text('<p title="a">a & b</p>', "utf-8")
    assert 'srcdoc="&lt;p title=&quot;a&quot;&gt;a &amp; b&lt;/p&gt;"' in report.show(tmp_path)._repr_html_()
    (tmp_path / "report.html").write_text("the run", "utf-8")
    assert "the run" in report.show(tmp_path)._repr_html_()
    with pytest.raises(KftError, match="holds no report"):
        report.show(tmp_path / "none")
