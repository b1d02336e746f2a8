"""Builds the optional native kernel; all else stands in pyproject.toml."""

import sys
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

ROOT = Path(__file__).resolve().parent
NATIVE = Path("src", "jpegrad", "backends", "native", "cpp")
FLAGS = (
    ["/O2", "/std:c++17"]
    if sys.platform == "win32"
    else [
        "-O3",
        # Python's own flags ask for debug information, eight times the size of the code.
        "-g0",
        "-std=c++17",
        "-fvisibility=hidden",
        "-ffp-contract=off",
        # Pointers that walk together are no vectors.
        "-fno-tree-slp-vectorize",
        # Lanes that hold no sample hold anything: their sums may overflow.
        "-fwrapv",
        "-Wno-psabi",
    ]
)


class OptionalBuild(build_ext):
    """Builds the kernel where a compiler works, and says what is lost where none does."""

    def build_extension(self, extension: Extension) -> None:
        try:
            super().build_extension(extension)
        except Exception as error:
            print(
                f"jpegrad: the native kernel was not built ({error}). The package works without it, "
                "with the slower PyTorch reference; `jpegrad backends` shows what runs.",
                file=sys.stderr,
            )

    def get_export_symbols(self, extension: Extension) -> list[str]:
        """No PyInit function: ctypes loads the library, Python's import system never does."""
        return extension.export_symbols


def native_extensions() -> list[Extension]:
    sources = sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / NATIVE).glob("*.cpp"))
    headers = sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / NATIVE).glob("*.h"))
    if not sources:
        return []
    return [
        Extension(
            "jpegrad.backends.native._kernel",
            sources=sources,
            depends=headers,
            language="c++",
            extra_compile_args=FLAGS,
            extra_link_args=[] if sys.platform == "win32" else ["-pthread"],
            py_limited_api=True,
            optional=True,
        )
    ]


extensions = native_extensions()
setup(
    ext_modules=extensions,
    cmdclass={"build_ext": OptionalBuild},
    options={"bdist_wheel": {"py_limited_api": "cp310"}} if extensions else {},
)
