"""What the tests of launch/plot.py share: a folder, files in it, and what was drawn of them."""
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import unittest

LAUNCH = pathlib.Path(__file__).resolve().parents[2] / "launch"
sys.path.append(str(LAUNCH))  # for `plots`


class PlotCase(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)

    def draw(self, files: dict, *more):
        """Runs plot.py on files of these names and texts."""
        for name, text in files.items():
            path = self.folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return self.run_plot(*(str(self.folder / name) for name in files), "--output", str(self.folder / "out"), *more)

    def run_plot(self, *arguments):
        return subprocess.run([sys.executable, str(LAUNCH / "plot.py"), *arguments], capture_output=True, text=True)

    def drawn(self, ending=".png") -> set:
        return {path.stem for path in (self.folder / "out").glob("*" + ending)}

    def words(self, picture: str) -> list:
        """All lines of text of an SVG picture."""
        text = (self.folder / "out" / f"{picture}.svg").read_text()
        return [line for words in re.findall("<!-- (.*?) -->", text, re.DOTALL) for line in words.split("\n")]

    def assert_drawn(self, result, *pictures):
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertEqual(result.stderr, "")
        self.assertEqual(self.drawn() | self.drawn(".svg"), set(pictures))

    def assert_refused(self, result, message: str):
        self.assertEqual(result.returncode, 2, result.stdout)
        self.assertIn(message, result.stderr)
        self.assertEqual(result.stderr.count("\n"), 1, result.stderr)


def main() -> None:
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        debian = "/usr/bin/python3"  # setup.sh installs for this one; another may come first in PATH
        if os.path.realpath(sys.executable) != os.path.realpath(debian) and os.access(debian, os.X_OK):
            os.execv(debian, [debian, *sys.argv])
        print("skipped: this Python has no matplotlib (launch/setup.sh python3-matplotlib)")
        sys.exit(77)
    unittest.main()
