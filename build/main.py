"""The first code of the one file. It has to parse on every Python there is: /usr/bin/python3 may be an old one."""

import sys

if sys.version_info < (3, 11):  # noqa: UP036
    sys.stderr.write("sendooway: needs Python 3.11 or newer; this is " + sys.version.split()[0] + "\n")
    sys.exit(78)


from sendooway import greeting

# First of all, since a client may be waiting for it.
greeter = greeting.begin(sys.argv[1:])


class ImportedAtFirstUse(type(sys)):
    """Stands for a module until somebody asks it for something."""

    # importlib.util.LazyLoader imports the module already when a second `import` looks whether it is there.
    def __getattr__(self, name):  # type: ignore[no-untyped-def]
        if sys.modules.get(self.__name__) is self:
            sys.modules.pop(self.__name__, None)
        return getattr(__import__(self.__name__), name)


# dataclasses imports it for classes without a docstring, and it takes as long as Python's own start.
sys.modules["inspect"] = ImportedAtFirstUse("inspect")

from sendooway.cli import main  # noqa: E402

sys.exit(main(greeter=greeter))
