from distilrec.core.tables import escape_markdown, markdown_table


def test_numbers_stand_to_the_right_and_cells_cannot_break_the_table():
    text = markdown_table(["", "a"], [["x|y", "1"], ["two\nlines", "2"]])
    assert text == "|  | a |\n| --- | ---: |\n| x\\|y | 1 |\n| two lines | 2 |"


def test_rule_aligns_the_columns():
    assert markdown_table(["n", "words"], [["1", "one"]], "|---:|---|") == "| n | words |\n|---:|---|\n| 1 | one |"


def test_cells_hold_no_control_sequences():
    assert markdown_table(["\x1b[31ma"], [["\x1b]0;owned\x07b"]]).splitlines()[::2] == ["| a |", "| b |"]


def test_signs_of_markdown_and_html_are_text():
    assert escape_markdown("<b> & *a* _b_ `c` [d](e) \\ #f\n~g~ \x1b[1mh") == (
        "\\<b\\> \\& \\*a\\* \\_b\\_ \\`c\\` \\[d\\](e) \\\\ \\#f \\~g\\~ h"
    )
