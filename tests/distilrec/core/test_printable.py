import pytest

from distilrec.core.printable import printable


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Amélie (2001) 千と千尋 👩‍🚀", "Amélie (2001) 千と千尋 👩‍🚀"),
        ("\x1b[31mred\x1b[0m", "red"),
        ("\x1b[2J\x1b[1;1Hover", "over"),
        ("\x9b31mred", "red"),
        ("\x1b]0;owned\x07title", "title"),
        ("\x1b]8;;http://evil.example\x1b\\link\x1b]8;;\x1b\\", "link"),
        ("\x1b]52;c;cm0gLXJm\x9ctext", "text"),
        ("\x1bPq#0\x1b\\sixel", "sixel"),
        ("never ends \x1b]0;here", "never ends ]0;here"),
        ("\x1b\x1b[0m[31mnested", "[31mnested"),
        ("two\r\nlines\tand a tab\u2028more", "two lines and a tab more"),
        ("back\b\b\x00\x7fspace", "backspace"),
        ("safe \u202egpj.exe", "safe gpj.exe"),
    ],
)
def test_what_controls_a_terminal_is_left_out(text, expected):
    assert printable(text) == expected


def test_no_text_of_signs_can_leave_a_control_character():
    signs = "\x1b\x9b\x9d\x07\x9c[]0;m\\\n\u202eA"
    for first in signs:
        for second in signs:
            for third in signs:
                left = printable(f"x{first}{second}\x1b{third}y")
                assert left.isprintable()
                assert left.startswith("x")
