import warnings
from html.parser import HTMLParser

from hypothesis import given
from hypothesis import strategies as st

from components.charts import bar_chart, compact_number, draw_svg, histogram_chart, short_name
from components.reports import Cell, Chart, Column, Page, Table, Tile, shorten, unique_names

NASTY = "<script>alert(1)</script> & $x_1$ \"'"


class Words(HTMLParser):
    def __init__(self, page):
        super().__init__()
        self.tags, self.sources, self.text = [], [], ""
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.sources += [value for name, value in attrs if name in ("src", "href", "xlink:href")]

    def handle_data(self, data):
        self.text += data


def test_a_page_is_one_file_in_which_all_text_is_escaped():
    svg = bar_chart(NASTY, [NASTY, "日本語"], [("a", [1, 2]), (NASTY, [3, 4])], "rows")
    page = Page(
        NASTY,
        NASTY,
        notes=[NASTY],
        tiles=[Tile(NASTY, NASTY)],
        charts=[Chart(NASTY, svg, NASTY), Chart("wide", svg, wide=True)],
        tables=[Table(NASTY, [Column(NASTY, "text")], [[NASTY], [Cell(NASTY, share=0.5, tag=NASTY)]], NASTY)],
        footer=[NASTY],
    ).render()
    parsed = Words(page)
    assert "script" not in parsed.tags and {"h1", "svg", "table", "footer"} <= set(parsed.tags)
    assert parsed.text.count("alert(1)") >= 10
    assert all(source.startswith("#") for source in parsed.sources)
    assert "prefers-color-scheme: dark" in page and "currentColor" in page


def test_a_table_writes_integers_dashes_and_what_stands_in_its_place():
    columns = [Column("name"), Column("rows", "number")]
    text = Words(Page("t", tables=[Table("a", columns, [["x", 1234567], ["y", None]])]).render()).text
    assert "1,234,567" in text and "–" in text
    assert "nothing found" in Page("t", tables=[Table("a", columns, [], empty="nothing found")]).render()


def test_a_plot_is_the_same_bytes_again_and_draws_any_script_without_a_warning():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        first = histogram_chart("Länge", [0, 5, 10], [3, 4], "文字", [("median", 5)])
    assert first == histogram_chart("Länge", [0, 5, 10], [3, 4], "文字", [("median", 5)])
    assert first.startswith("<svg") and "文字" in first and "#010203" not in first
    assert "currentColor" in draw_svg("line", (2, 2), lambda figure, axes: axes.plot([0, 1]))


@given(st.lists(st.text(), max_size=20))
def test_names_are_distinct_printable_lines_of_bounded_length(labels):
    names = unique_names(labels, 12)
    assert len(set(names)) == len(labels)
    assert all(name and name.isprintable() and len(name) <= 12 for name in names)


def test_numbers_and_names_are_short_in_plots():
    written = [compact_number(value) for value in (0.25, 950, 12_000, 30_000_000, 3.0)]
    assert written == ["0.25", "950", "12k", "30M", "3"]
    assert short_name("abcdef", 4) == "abc…" and short_name("漢字漢字", 5) == "漢字…"


@given(st.text(max_size=30), st.integers(1, 20))
def test_a_shortened_text_is_its_beginning(text, characters):
    short = shorten(text, characters)
    assert len(short) <= characters
    assert short == text or (len(text) > characters and short[-1] == "…" and text.startswith(short[:-1]))
