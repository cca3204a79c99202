"""Tables for a reader: framed on a terminal, plain aligned text elsewhere."""

from collections.abc import Sequence

from rich.console import Console


def show_table(title: str, head: Sequence[str], rows: Sequence[Sequence[str]], num_text: int, console: Console) -> None:
    """num_text: how many leading columns hold text and are aligned left; the others hold numbers."""
    if console.is_terminal:
        from rich.table import Table

        table = Table(title=title, title_justify="left")
        for number, name in enumerate(head):
            table.add_column(name, justify="left" if number < num_text else "right", overflow="fold")
        for row in rows:
            table.add_row(*row)
        console.print(table)
        return
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    console.print(title, soft_wrap=True)
    for row in [head, *rows]:
        aligned = map(str.ljust, row[:num_text], widths), map(str.rjust, row[num_text:], widths[num_text:])
        console.print("  ".join(cell for part in aligned for cell in part), soft_wrap=True)
