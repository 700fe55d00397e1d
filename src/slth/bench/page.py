"""The page and the picture that a measurement leaves behind."""

from __future__ import annotations

from pathlib import Path

from slth.bench import plot, tables
from slth.bench.contenders import BASELINE
from slth.bench.report import Report
from slth.errors import OutputError
from slth.files import check_writable, reason, write_atomically

PAGE, PICTURE = "subset-sum.md", "subset-sum.png"
BEGIN, END = "<!-- measured: begin -->", "<!-- measured: end -->"
_NEW = f"# Subset sums, measured\n\n{BEGIN}\n{END}\n"


def prepare(folder: Path) -> None:
    """Make the folder and see to it that both files can be written, before anything is measured.

    Raises
    ------
    OutputError
        If not, or where a page of that name has no place for a measurement.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(str(folder), reason(error), "a folder that can be made", "--output DIR") from error
    for name in (PAGE, PICTURE):
        check_writable(folder / name)
    split(folder / PAGE, _NEW)


def write(folder: Path, report: Report, command: str) -> tuple[Path, Path]:
    """Write the picture, and the page with the measured part replaced and all else kept.

    Parameters
    ----------
    folder : path
        As :func:`prepare` left it.
    report : Report
    command : str
        What repeats the measurement.

    Returns
    -------
    page, picture : path
    """
    before, after = split(folder / PAGE, _NEW)
    text = f"{before}{BEGIN}\n\n{measured(report, command)}\n{END}{after}"
    write_atomically(folder / PICTURE, plot.draw(report))
    write_atomically(folder / PAGE, text.encode())
    return folder / PAGE, folder / PICTURE


def split(page: Path, empty: str) -> tuple[str, str]:
    """What a page has before and after its measured part; ``empty`` stands for a page that does not exist.

    Raises
    ------
    OutputError
        If it has no place for a measurement.
    """
    try:
        text = page.read_text(encoding="utf-8") if page.exists() else empty
    except (OSError, UnicodeDecodeError) as error:
        raise OutputError(str(page), "a file that is not text", "a page", "another --output") from error
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise OutputError(
            str(page), "a page without a place for the measurement", f"the lines {BEGIN} and {END}", "another --output"
        )
    return before, after


def measured(report: Report, command: str) -> str:
    """The part of the page between the marks."""
    first = report.settings.base_sets[0]
    said = [
        f"Measured with `{command}`.",
        "\n".join(f"* {name}: {value}" for name, value in report.machine.items()),
        "### Time a problem",
        f"Median of {report.settings.rounds} rounds on one thread; in brackets how many times `{BASELINE}` takes.",
        *_sections(tables.time_tables(report)),
        f"![Time a problem against the size of the base set, a line a solver]({PICTURE})",
        f"*Elements of {first} base sets. A hollow mark with an arrow: the time limit of {report.settings.limit:g} s "
        "came first.*",
        "### Answers",
        "\n".join(f"* {sentence}" for sentence in tables.summary(report)),
    ]
    short = tables.shortfalls(report)
    if short.rows:
        said += [f"{short.title}:", short.markdown()]
    threads = tables.thread_table(report)
    if threads.rows:
        said += [
            f"### {report.settings.threads} threads",
            f"{threads.title}, median of the rounds:",
            threads.markdown(),
        ]
    if report.startups:
        startup = tables.startup_table(report)
        said += ["### Starting", f"{startup.title}:", startup.markdown()]
    said += ["### Who is measured", "\n".join(f"* `{name}`: {what}" for name, what in report.contenders.items())]
    return "\n\n".join(said) + "\n"


def _sections(made: list[tables.Table]) -> list[str]:
    return [part for table in made for part in (f"**{table.title}**", table.markdown())]
