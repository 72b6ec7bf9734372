from distilrec.core.tables import markdown_table


def test_numbers_stand_to_the_right_and_cells_cannot_break_the_table():
    text = markdown_table(["", "a"], [["x|y", "1"], ["two\nlines", "2"]])
    assert text == "|  | a |\n| --- | ---: |\n| x\\|y | 1 |\n| two lines | 2 |"


def test_rule_aligns_the_columns():
    assert markdown_table(["n", "words"], [["1", "one"]], "|---:|---|") == "| n | words |\n|---:|---|\n| 1 | one |"
