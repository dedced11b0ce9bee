"""The report of a run where a notebook shows it: below the cell."""

import html
from dataclasses import dataclass
from pathlib import Path

from kft.errors import KftError

HEIGHT = 720  # pixels


@dataclass(frozen=True)
class Inline:
    """A page that a notebook shows below the cell that returned it.

    Attributes:
        path: of the page, for a browser.
        height: of the frame around it, in pixels.
    """

    path: Path
    height: int = HEIGHT

    def _repr_html_(self) -> str:
        # In a frame: the styles of the page and those of the notebook must not meet.
        page = html.escape(self.path.read_text("utf-8"))
        style = f"width: 100%; height: {self.height}px; border: 1px solid #8884; border-radius: 6px"
        return f'<iframe title="{html.escape(self.path.name)}" srcdoc="{page}" style="{style}"></iframe>'


def show(run: str | Path, height: int = HEIGHT) -> Inline:
    """The report of a run, of an ensemble, a search or a suite, to be shown in a notebook.

    Args:
        run: the folder.
        height: of its frame, in pixels; the page scrolls in it.

    Raises:
        KftError: there is no report in the folder.
    """
    pages = [
        page for page in (Path(run) / "report.html", *sorted(Path(run).glob("*.html"))) if page.is_file()
    ]
    if not pages:
        raise KftError(f"{run}: holds no report", "a run has one when it has ended")
    return Inline(pages[0], height)
