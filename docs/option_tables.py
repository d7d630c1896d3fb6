"""Write the table of options into the page of every command; `make schemas` runs this."""

from pathlib import Path

from batchsense.questions.option_table import with_table
from batchsense.questions.registry import QUESTIONS

PAGES = Path(__file__).parent / "commands"

if __name__ == "__main__":
    for command, question in QUESTIONS.items():
        path = PAGES / f"{command}.md"
        path.write_text(with_table(path.read_text("utf-8"), question.request), "utf-8")
