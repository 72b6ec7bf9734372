"""Declarations by name: a kind of student, teacher, loss or serving target is declared once, in the file that implements it."""

from collections.abc import Iterator, Mapping
from importlib import import_module
from importlib.util import find_spec
from pkgutil import iter_modules
from typing import Generic, TypeVar

from distilrec.core.errors import ConfigError, MissingExtraError

T = TypeVar("T")


class Registry(Mapping[str, T], Generic[T]):
    """All declarations of one sort, by name.

    The modules of ``package`` declare them when they are imported. They are imported at the first look-up and not before, so
    that settings can be parsed by what must not load PyTorch at its start. A look-up imports the module of that name alone
    where it declares the name, so that one kind does not wait for the libraries of all others. A declaration from elsewhere
    (a test, an application) counts from the moment its module is imported.

    Args:
        noun: What is declared, for error messages: "student kind".
        package: Dotted name of the package whose modules declare.
        extra: The extra of DistilRec that installs what these modules need.
    """

    def __init__(self, noun: str, package: str, extra: str) -> None:
        self.noun = noun
        self._package = package
        self._extra = extra
        self._declared: dict[str, T] = {}
        self._imported = False

    def declare(self, name: str, declaration: T) -> T:
        """Add a declaration and return it.

        Raises:
            ValueError: The name is taken.
        """
        if name in self._declared:
            raise ValueError(f"found two declarations of the {self.noun} {name!r}, expected one")
        self._declared[name] = declaration
        return declaration

    def __getitem__(self, name: str) -> T:
        """The declaration of this name.

        Raises:
            ConfigError: There is none; the message lists the names that exist.
            MissingExtraError: The declaring modules need a package that is not installed.
        """
        if name not in self._declared:
            self._import_namesake(name)
        if name not in self._declared:
            self._import_all()
        if name not in self._declared:
            raise ConfigError(f"found the {self.noun} {name!r}, expected one of {', '.join(self)}")
        return self._declared[name]

    def __iter__(self) -> Iterator[str]:
        """All names, in alphabetical order."""
        self._import_all()
        return iter(sorted(self._declared))

    def __len__(self) -> int:
        self._import_all()
        return len(self._declared)

    def __contains__(self, name: object) -> bool:
        self._import_all()
        return name in self._declared

    def _import_namesake(self, name: str) -> None:
        """Import the module of ``package`` with this name, where there is one."""
        try:
            if name.isidentifier() and find_spec(f"{self._package}.{name}") is not None:
                import_module(f"{self._package}.{name}")
        except ModuleNotFoundError as error:
            raise MissingExtraError(f"The package {error.name!r}", self._extra) from error

    def _import_all(self) -> None:
        if self._imported:
            return
        self._imported = True  # first, because the modules below may look names up themselves
        try:
            package = import_module(self._package)
            for module in iter_modules(package.__path__):
                import_module(f"{self._package}.{module.name}")
        except ModuleNotFoundError as error:
            self._imported = False
            raise MissingExtraError(f"The package {error.name!r}", self._extra) from error
