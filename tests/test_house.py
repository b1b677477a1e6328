"""The rooms of the package and what they import, read from the source."""

import ast
import pathlib
import re

import pytest

import tfcomp

PACKAGE = pathlib.Path(tfcomp.__file__).parent
DESIGN = PACKAGE.parent / "docs" / "design.md"


def _floors():
    """Dict from room to the number of its floor, the faces' highest, as the table says."""
    text = DESIGN.read_text(encoding="utf-8")
    rows = re.findall(r"^\| (\w+) \| (`.*`) \|$", text, re.MULTILINE)
    assert rows[0][0] == "faces" and len(rows) > 3
    return {
        room: len(rows) - row
        for row, (_, rooms) in enumerate(rows)
        for room in re.findall(r"`([^`]+)`", rooms)
    }


FLOORS = _floors()
TOP = max(FLOORS.values())
FILES = {
    ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__"): path
    for path in sorted(PACKAGE.rglob("*.py"))
}


def _place(module):
    """A module as the table names it: its file, or else the folder in the package that it is in."""
    parts = FILES[module].relative_to(PACKAGE).with_suffix("").parts
    return next((name for name in ("/".join(parts), parts[0]) if name in FLOORS), None)


def _room(module):
    """What circles are looked for among: a folder or file, and each one in `methods/`."""
    parts = module.split(".")[1:]
    return "/".join(parts[:2]) if parts[0] == "methods" else parts[0]


def _imports(module):
    """Yields what a module imports of the package, inside functions, too."""
    for node in ast.walk(ast.parse(FILES[module].read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}: a relative import"
            full = [f"{node.module}.{alias.name}" for alias in node.names]
            names = [name if name in FILES else node.module for name in full]
        else:
            continue
        for name in names:
            if name.split(".")[0] == "tfcomp":
                assert name in FILES, f"{module} imports {name}, which is not there"
                yield name


IMPORTS = [(module, name) for module in FILES for name in _imports(module) if module != name]
# A face may import anything.
INSIDE = [(a, b) for a, b in IMPORTS if FLOORS.get(_place(a)) != TOP]


def test_every_room_stands_in_the_table():
    lost = sorted({module for module in FILES if _place(module) is None})
    assert not lost, f"No floor for {lost}: the table is in {DESIGN.name}"
    there = {_place(module) for module in FILES}
    assert set(FLOORS) == there, f"Not there: {sorted(set(FLOORS) - there)}"


def test_faces_define_nothing():
    for module, path in FILES.items():
        if FLOORS[_place(module)] == TOP and module != "tfcomp.__main__":
            kinds = (ast.FunctionDef, ast.ClassDef)
            made = [n.name for n in ast.parse(path.read_text()).body if isinstance(n, kinds)]
            assert not made, f"{module} is a face and defines {made}"


def test_nothing_but_faces_imports_a_face():
    wrong = [f"{a} imports {b}" for a, b in INSIDE if FLOORS[_place(b)] == TOP]
    assert not wrong, "\n".join(wrong)


def test_no_import_goes_up():
    wrong = [f"{a} imports {b}" for a, b in INSIDE if FLOORS[_place(a)] < FLOORS[_place(b)] < TOP]
    assert not wrong, "\n".join(wrong)


def test_no_circle_of_rooms():
    after = {}
    for a, b in INSIDE:
        if FLOORS[_place(b)] < TOP and _room(a) != _room(b):
            after.setdefault(_room(a), {}).setdefault(_room(b), f"{a} imports {b}")
    # Rooms that import nothing but rooms taken away already are taken away, until none is left.
    left = set(after)
    while free := {room for room in left if not left & set(after[room])}:
        left -= free
    within = [after[a][b] for a in sorted(left) for b in sorted(after[a]) if b in left]
    assert not within, "There is a circle among\n" + "\n".join(within)


def test_every_paper_has_its_room():
    """The table of papers names all that is in methods/, and nothing that is not there."""
    text = DESIGN.read_text(encoding="utf-8")
    rows = re.findall(r"^\| .*\d{4}.* \| `([\w/]+(?:\.py|/))` \|$", text, re.MULTILINE)
    assert len(rows) == len(set(rows)) >= 23
    for room in rows:
        assert (PACKAGE / room).exists(), room
    there = {
        f"methods/{path.name}{'/' * path.is_dir()}"
        for path in (PACKAGE / "methods").iterdir()
        if not path.name.startswith("__")
    }
    # Keeping zeros at zero is no paper's.
    assert there - {"methods/preserve_sparsity.py"} == {r for r in rows if r[:8] == "methods/"}


@pytest.mark.parametrize("room", sorted((PACKAGE / "methods").iterdir()), ids=lambda p: p.name)
def test_a_room_names_its_paper(room):
    files = [room] if room.suffix == ".py" else sorted(room.glob("*.py"))
    if room.name.startswith("__") or room.name == "preserve_sparsity.py":
        return
    text = "".join(path.read_text(encoding="utf-8") for path in files)
    assert re.search(r"arXiv:\d{4}\.\d{5}|1990|1992|1993", text), room
