"""The JSDoc types of the page's modules, judged by the TypeScript compiler."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from tests.page_host import STATIC
from tests.page_packages import installed, node

STRICT = {
    "noEmit": True,
    "allowJs": True,
    "checkJs": True,
    "strict": True,
    "noUnusedLocals": True,
    "noUnusedParameters": True,
    "target": "es2022",
    "module": "esnext",
    "moduleResolution": "bundler",
    "lib": ["es2023", "dom", "dom.iterable"],
    "types": [],
}

BROKEN = "/** @type {number} */\nexport const wrong = 'a text';\n"


def judged(folder: Path) -> str:
    """Return what the compiler says of all modules below a folder."""
    settings = folder.parent / "tsconfig.json"
    settings.write_text(json.dumps({"compilerOptions": STRICT, "include": [f"{folder}/**/*.js"]}))
    done = node(installed() / "typescript" / "bin" / "tsc", "-p", settings, cwd=folder.parent)
    assert done.stderr == ""
    return done.stdout


@pytest.mark.timeout(180)
def test_the_modules_keep_their_types(tmp_path: Path) -> None:
    """Strictly, without a build step; the one that does not, put there to see that it is found, is found."""
    folder = tmp_path / "static"
    shutil.copytree(STATIC, folder)
    (folder / "wrong.js").write_text(BROKEN)
    (found,) = judged(folder).splitlines()
    assert found.startswith("static/wrong.js(2,14): error TS2322")
