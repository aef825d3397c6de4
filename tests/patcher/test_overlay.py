from __future__ import annotations

from typing import Protocol


class RunChild(Protocol):
    """The fixture `run_child`, as far as it is used here."""

    def __call__(self, script: str, *, files: dict[str, str] = ...) -> str: ...


START = """
    import importlib, importlib.util, inspect, sys, traceback
    from zdpatch.patcher import codes, overlay
    from zdpatch.patcher.overlay import REMOVED, Source, TABLE

    def serve(name, text, package=False):
        path = name.replace(".", "/") + ("/__init__.py" if package else ".py")
        TABLE[name] = Source(name, text.encode(), f"<zdpatch FIX-1 {path}>", package)

    overlay.install()
"""

SHOP = {
    "shop/__init__.py": "VERSION = 1\n",
    "shop/cart.py": "def total(): return 1\n",
    "shop/tool.py": "VALUE = 1\n",
    "shop/data/prices.txt": "12\n",
    "shop/deep/__init__.py": "from shop.deep.leaf import VALUE\n",
    "shop/deep/leaf.py": "VALUE = 1\n",
    "spread/inner/leaf.py": "VALUE = 1\n",
    "loud/__init__.py": "raise SystemExit('was imported')\n",
    "loud/part.py": "raise SystemExit('was imported')\n",
}


def test_a_later_import_gets_the_patched_source_in_the_real_place(run_child: RunChild) -> None:
    """Code, lines and tracebacks are the patch's; location, resources and submodules the disk's."""
    script = (
        START
        + """
    import importlib.resources, pkgutil, os
    text = "VERSION = 2\\n\\n\\nclass Cart:\\n    new = 1\\ndef boom():\\n    raise ValueError\\n"
    serve("shop", text, True)
    serve("shop.cart", "def total(): return 2\\n")
    import shop
    from shop.cart import total
    assert shop.VERSION == 2 and total() == 2
    root = os.path.join(sys.path[0], "shop")
    assert shop.__file__ == os.path.join(root, "__init__.py") and list(shop.__path__) == [root]
    assert shop.cart.__file__ == os.path.join(root, "cart.py") and shop.__spec__.has_location
    assert importlib.resources.files("shop").joinpath("data/prices.txt").read_text() == "12\\n"
    assert pkgutil.get_data("shop", "data/prices.txt") == b"12\\n"
    assert [m.name for m in pkgutil.iter_modules(shop.__path__)] == ["cart", "deep", "tool"]
    assert shop.__loader__.get_source("shop").startswith("VERSION = 2")
    assert shop.__loader__.is_package("shop") and not shop.cart.__loader__.is_package("shop.cart")
    assert shop.boom.__code__.co_filename == "<zdpatch FIX-1 shop/__init__.py>"
    assert inspect.getsource(shop.boom) == "def boom():\\n    raise ValueError\\n"
    assert inspect.getsource(shop.Cart) == "class Cart:\\n    new = 1\\n"
    try:
        shop.boom()
    except ValueError:
        text = traceback.format_exc()
    place = 'File "<zdpatch FIX-1 shop/__init__.py>", line 7, in boom\\n'
    assert place + "    raise ValueError\\n" in text
    import shop.deep
    assert shop.deep.VALUE == 1 and overlay.served("shop") and not overlay.served("shop.deep")
    """
    )
    run_child(script, files=SHOP)


def test_sources_outlive_the_disk_and_the_check_of_caches(run_child: RunChild) -> None:
    """After a deploy replaced the file, a patched function still shows its own source."""
    script = (
        START
        + """
    import linecache
    serve("shop.cart", "def total():\\n    return 2\\n")
    import shop.cart
    with open(shop.cart.__file__, "w") as file:
        file.write("# something else\\n" * 100)
    linecache.checkcache()
    assert inspect.getsource(shop.cart.total) == "def total():\\n    return 2\\n"
    """
    )
    run_child(script, files=SHOP)


def test_added_and_removed_modules(run_child: RunChild) -> None:
    """A module that no disk has can be imported, one that the patch removes cannot."""
    script = (
        START
        + """
    serve("shop.fresh", "from shop import VERSION\\nHERE = __file__\\n")
    serve("shop.kit", "from . import tool\\n", True)
    serve("shop.kit.tool", "NAME = __name__\\n")
    serve("toplevel", "X = 1\\n")
    TABLE["shop.cart"] = REMOVED
    import shop.fresh, shop.kit, toplevel
    assert shop.fresh.VERSION == 1 and shop.kit.tool.NAME == "shop.kit.tool" and toplevel.X == 1
    assert shop.fresh.HERE.endswith("/shop/fresh.py") and not hasattr(toplevel, "__file__")
    assert shop.kit.__path__ and shop.kit.tool.__spec__.parent == "shop.kit"
    try:
        import shop.cart
    except ModuleNotFoundError as error:
        assert error.name == "shop.cart" and str(error) == "No module named 'shop.cart'"
    else:
        raise AssertionError
    del TABLE["shop.cart"]
    import shop.cart
    """
    )
    run_child(script, files=SHOP)


def test_reload_and_run_module_get_the_patched_source(run_child: RunChild) -> None:
    """importlib.reload, runpy and util.find_spec go through the table too."""
    script = (
        START
        + """
    import runpy
    import shop.cart
    serve("shop.cart", "def total(): return 2\\nNAME = __name__\\n")
    assert shop.cart.total() == 1
    old = shop.cart
    assert importlib.reload(shop.cart) is old and old.total() == 2
    del TABLE["shop.cart"]
    assert importlib.reload(shop.cart).total() == 1
    serve("shop.tool", "VALUE = 2\\nNAME = __name__\\n")
    assert runpy.run_module("shop.tool")["VALUE"] == 2
    assert importlib.util.find_spec("shop.tool").loader.get_code("shop.tool")
    """
    )
    run_child(script, files=SHOP)


def test_other_finders_keep_their_say(run_child: RunChild) -> None:
    """Import hooks in front and behind, which ask everyone else again, see a patched module."""
    script = (
        START
        + """
    from importlib.machinery import PathFinder
    serve("shop.cart", "def total(): return 2\\n")
    log = []

    class Hook:
        "As the import hooks of tracers: finds through all other finders, and adds to the loader."
        def __init__(self, label):
            self.label, self.busy = label, set()
        def find_spec(self, name, path=None, target=None):
            if not name.startswith("shop") or name in self.busy:
                return None
            self.busy.add(name)
            try:
                spec = importlib.util.find_spec(name)
            finally:
                self.busy.discard(name)
            if spec is not None:
                real = spec.loader
                class Loader:
                    def create_module(_, spec):
                        return real.create_module(spec)
                    def exec_module(_, module):
                        real.exec_module(module)
                        log.append((self.label, module.__name__))
                spec.loader = Loader()
            return spec

    sys.meta_path.insert(0, Hook("front"))
    sys.meta_path.insert(2, Hook("behind"))
    import shop.cart
    assert shop.cart.total() == 2
    assert ("front", "shop.cart") in log and ("behind", "shop.cart") in log, log
    """
    )
    run_child(script, files=SHOP)


def test_locate_runs_nothing(run_child: RunChild) -> None:
    """Sources are found below packages which were not imported, and are not by this."""
    script = (
        START
        + """
    def text(name):
        return overlay.locate(name).source
    assert text("loud.part").startswith(b"raise") and text("loud").startswith(b"raise")
    assert overlay.locate("loud").package and not overlay.locate("loud.part").package
    assert text("spread.inner.leaf") == text("shop.deep.leaf") == b"VALUE = 1\\n"
    found = overlay.locate("shop.deep.leaf")
    assert found.origin.endswith("shop/deep/leaf.py")
    assert codes.same(found.code, codes.compile_source(b"VALUE = 1\\n", "x"))
    inner = overlay.locate("spread.inner")
    assert inner.package and inner.source is None and inner.code is None
    for name in ("none", "none.below", "shop.cart.below", "loud.none", "shop.none.below"):
        assert overlay.locate(name) is None, name
    assert overlay.locate("math").source is None
    assert not {"shop", "loud", "spread"} & set(sys.modules)
    import shop
    shop.__path__.append(sys.path[0] + "/spread")
    assert text("shop.inner.leaf") == b"VALUE = 1\\n"  # an imported parent is asked for its path
    serve("shop.cart", "X = 1\\n")
    serve("shop.fresh.one", "X = 2\\n")
    TABLE["shop.deep"] = REMOVED
    assert text("shop.cart") == b"X = 1\\n" and text("shop.fresh.one") == b"X = 2\\n"
    assert overlay.locate("shop.deep") is None and overlay.locate("shop.deep.leaf") is None
    serve("broken", "def (:")
    assert overlay.locate("broken").code is None and text("broken")
    spec = overlay.make_spec(TABLE["shop.cart"])
    assert overlay.source_of(spec) is TABLE["shop.cart"] and spec.origin.endswith("shop/cart.py")
    """
    )
    run_child(script, files=SHOP)


def test_zip_archives_and_compiled_files(run_child: RunChild) -> None:
    """A zip gives sources and can be patched; a .pyc without source gives its code."""
    script = (
        START
        + """
    import os, py_compile, zipfile
    root = sys.path[0]
    with zipfile.ZipFile(root + "/lib.zip", "w") as file:
        file.writestr("zipped/__init__.py", "")
        file.writestr("zipped/part.py", "VALUE = 1\\n")
        file.writestr("zipped/data.txt", "data")
    sys.path.append(root + "/lib.zip")
    py_compile.compile(root + "/shop/cart.py", root + "/bare.pyc")
    found = overlay.locate("zipped.part")
    assert found.source == b"VALUE = 1\\n" and "zipped" not in sys.modules
    bare = overlay.locate("bare")
    assert bare.source is None
    assert codes.same(bare.code, codes.compile_source(b"def total(): return 1\\n", "x"))
    serve("zipped.part", "VALUE = 2\\n")
    serve("zipped", "VERSION = 2\\n", True)
    serve("bare", "def total(): return 2\\n")
    import zipped.part, bare, importlib.resources
    assert zipped.part.VALUE == 2 and bare.total() == 2 and zipped.__file__.endswith("__init__.py")
    assert importlib.resources.files("zipped").joinpath("data.txt").read_text() == "data"
    """
    )
    run_child(script, files=SHOP)


def test_many_threads_import_one_patched_module(run_child: RunChild) -> None:
    """A module imported by twenty threads at once is executed once, from the patched source."""
    script = (
        START
        + """
    import threading, builtins
    builtins.count = []
    serve("shop.cart", "count.append(1)\\ndef total(): return 2\\n")
    start, got = threading.Barrier(20), []
    def load():
        start.wait()
        from shop.cart import total
        got.append(total())
    threads = [threading.Thread(target=load) for _ in range(20)]
    for thread in threads: thread.start()
    for thread in threads: thread.join()
    assert got == [2] * 20 and builtins.count == [1]
    """
    )
    run_child(script, files=SHOP)


def test_install_is_idempotent_and_can_be_taken_back(run_child: RunChild) -> None:
    """There is one finder however often it is installed, and none after it was uninstalled."""
    script = (
        START
        + """
    overlay.install()
    assert sys.meta_path.count(overlay.FINDER) == 1
    overlay.uninstall()
    serve("shop.cart", "def total(): return 2\\n")
    assert overlay.FINDER not in sys.meta_path
    import shop.cart
    assert shop.cart.total() == 1
    """
    )
    run_child(script, files=SHOP)


def test_a_failing_import_leaves_no_module(run_child: RunChild) -> None:
    """A patched source that raises while imported behaves as any module that does."""
    script = (
        START
        + """
    serve("shop.cart", "def total(): return 2\\nraise LookupError('no')\\n")
    try:
        import shop.cart
    except LookupError as error:
        assert error.__traceback__.tb_next is not None
    assert "shop.cart" not in sys.modules and not overlay.served("shop.cart")
    serve("shop.cart", "def total(): return 3\\n")
    import shop.cart
    assert shop.cart.total() == 3 and overlay.served("shop.cart")
    """
    )
    run_child(script, files=SHOP)
