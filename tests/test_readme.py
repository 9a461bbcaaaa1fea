"""The README's own-network section, run as a reader would run it."""

import re
import sys
from pathlib import Path

import pytest

from pascal_nm.cli.main import main

README = Path(__file__).parent.parent / "README.md"


def test_the_steps_of_the_readme_run(tmp_path, monkeypatch, capsys):
    section = README.read_text().split("## Your own network")[1].split("\n## ")[0]
    python = re.findall(r"```python\n(.*?)```", section, re.DOTALL)
    commands = re.findall(r"^pascal-nm (.*?)(?:\s+#.*)?$", section, re.MULTILINE)
    assert (len(python), len(commands)) == (4, 4)
    monkeypatch.chdir(tmp_path)
    exec("\n".join(python), {"__name__": "readme"})
    printed = capsys.readouterr().out
    spiking, source = (float(re.search(rf"{who}\s+([\d.]+)", printed)[1]) for who in ("spiking", "source"))
    assert spiking == source > 0.9
    for command in commands:
        if "lava" in command:
            pytest.importorskip("lava")
        monkeypatch.setattr(sys, "argv", ["pascal-nm", *command.split()])
        with pytest.raises(SystemExit) as end:
            main()
        assert end.value.code == 0, command
