"""A grid of characters on which lines join where they meet."""

from __future__ import annotations

from rich.text import Text

UP, RIGHT, DOWN, LEFT = 1, 2, 4, 8
_UNICODE = {
    UP: "│",
    DOWN: "│",
    UP | DOWN: "│",
    LEFT: "─",
    RIGHT: "─",
    LEFT | RIGHT: "─",
    DOWN | RIGHT: "┌",
    DOWN | LEFT: "┐",
    UP | RIGHT: "└",
    UP | LEFT: "┘",
    UP | DOWN | RIGHT: "├",
    UP | DOWN | LEFT: "┤",
    DOWN | LEFT | RIGHT: "┬",
    UP | LEFT | RIGHT: "┴",
    UP | DOWN | LEFT | RIGHT: "┼",
}


class Canvas:
    """`unicode`: whether lines are drawn with box characters or with `|`, `-` and `+`."""

    def __init__(self, *, unicode: bool) -> None:
        self._unicode = unicode
        self._joints: dict[tuple[int, int], int] = {}
        self._letters: dict[tuple[int, int], tuple[str, str]] = {}

    def line(self, from_x: int, from_y: int, to_x: int, to_y: int) -> None:
        """Straight, both ends included; a line of one cell leaves it as it is."""
        if from_y == to_y:
            for x in range(min(from_x, to_x), max(from_x, to_x)):
                self._join(x, from_y, RIGHT)
                self._join(x + 1, from_y, LEFT)
        else:
            for y in range(min(from_y, to_y), max(from_y, to_y)):
                self._join(from_x, y, DOWN)
                self._join(from_x, y + 1, UP)

    def box(self, x: int, y: int, width: int, height: int) -> None:
        right, bottom = x + width - 1, y + height - 1
        self.line(x, y, right, y)
        self.line(x, bottom, right, bottom)
        self.line(x, y, x, bottom)
        self.line(right, y, right, bottom)

    def write(self, x: int, y: int, text: str, style: str = "") -> None:
        """Over whatever is there."""
        for place, letter in enumerate(text):
            self._letters[x + place, y] = (letter, style)

    def lines(self) -> list[Text]:
        cells = {*self._joints, *self._letters}
        height = max((y for _, y in cells), default=-1) + 1
        return [self._row(y, max((x for x, row in cells if row == y), default=-1) + 1) for y in range(height)]

    def _row(self, y: int, width: int) -> Text:
        return Text.assemble(*(self._cell(x, y) for x in range(width)))

    def _cell(self, x: int, y: int) -> tuple[str, str]:
        if (x, y) in self._letters:
            return self._letters[x, y]
        joint = self._joints.get((x, y), 0)
        return (self._character(joint) if joint else " ", "")

    def _character(self, joint: int) -> str:
        if self._unicode:
            return _UNICODE[joint]
        if not joint & (LEFT | RIGHT):
            return "|"
        return "-" if not joint & (UP | DOWN) else "+"

    def _join(self, x: int, y: int, direction: int) -> None:
        self._joints[x, y] = self._joints.get((x, y), 0) | direction
