# SPDX-License-Identifier: Apache-2.0
"""What Python believes of whisperengine.h is what a C compiler says: sizes, offsets, constants, and the kinds of parameters."""
import ctypes
import os
import re
import shutil
import subprocess
import tempfile
import unittest

import helpers
from whisperengine import _native, errors

HEADER = os.path.join(helpers.SOURCE_DIR, "include", "whisperengine.h")


def header():
    with open(HEADER, encoding="utf-8") as f:
        return re.sub(r"/\*.*?\*/", " ", f.read(), flags=re.DOTALL)


def kind_of_c(declaration):
    """"pointer", "size_t", "int", ... of a C parameter or result."""
    words = declaration.replace("WE_API", "").replace("const", "").split()
    if "*" in declaration or "[" in declaration or words[0].endswith("_fn"):
        return "pointer"
    return {"we_status": "int", "we_log_level": "int", "we_config_target": "int", "char": "char"}.get(words[0], words[0])


def kind_of_ctypes(type_):
    if type_ is None:
        return "void"
    if issubclass(type_, ctypes._Pointer) or type_ in (ctypes.c_void_p, ctypes.c_char_p) or \
            issubclass(type_, ctypes._CFuncPtr):
        return "pointer"
    # c_size_t is one of the plain types under another name
    return {ctypes.c_int: "int", ctypes.c_bool: "bool", ctypes.c_size_t: "size_t", ctypes.c_double: "double"}[type_]


class Header(unittest.TestCase):
    def test_structs_and_constants_agree_with_the_compiler(self):
        compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
        if not compiler:
            self.skipTest("no C compiler on this machine")
        checks = []
        for name, struct in _native.STRUCTS.items():
            # A struct that knows its size may lag behind the header's, which has more fields at the end.
            sized = issubclass(struct, _native._Sized)
            checks.append(f"_Static_assert(sizeof({name}) {'>=' if sized else '=='} {ctypes.sizeof(struct)}, \"sizeof {name}\");")
            for field, *_ in struct._fields_:
                offset, size = getattr(struct, field).offset, getattr(struct, field).size
                checks.append(f"_Static_assert(offsetof({name}, {field}) == {offset}, \"{name}.{field}\");")
                checks.append(f"_Static_assert(sizeof((({name} *)0)->{field}) == {size}, \"size of {name}.{field}\");")
        constants = [n for n in dir(_native) if re.match(r"[A-Z]+_[A-Z_]+$", n) and isinstance(getattr(_native, n), int)]
        self.assertGreater(len(constants), 9)
        checks += [f"_Static_assert(WE_{n} == {getattr(_native, n)}, \"WE_{n}\");" for n in constants]
        with tempfile.TemporaryDirectory() as place:
            source = os.path.join(place, "check.c")
            with open(source, "w", encoding="utf-8") as f:
                f.write(f'#include "{HEADER}"\n' + "\n".join(checks) + "\n")
            done = subprocess.run([compiler, "-std=c17", "-fsyntax-only", source], stderr=subprocess.PIPE, text=True)
        self.assertEqual(done.returncode, 0, done.stderr)

    def test_every_status_has_its_exception(self):
        declared = {int(v): n for n, v in re.findall(r"WE_E_([A-Z_]+) = (\d+)", header())}
        self.assertEqual(sorted(declared), sorted(errors.BY_STATUS))
        self.assertIs(errors.BY_STATUS[next(v for v, n in declared.items() if n == "NOMEM")], errors.OutOfMemoryError)

    def test_functions_have_the_headers_parameters(self):
        flat = " ".join(header().split())
        for name, (result, parameters) in _native.FUNCTIONS.items():
            with self.subTest(name):
                found = re.search(r"WE_API ([a-z_0-9 ]+[ *]+)" + name + r"\(([^;]*)\);", flat)
                self.assertIsNotNone(found, f"{name} is not in the header")
                declared = [] if found[2] == "void" else [kind_of_c(p.strip()) for p in found[2].split(",")]
                self.assertEqual([kind_of_ctypes(p) for p in parameters], declared)
                self.assertEqual(kind_of_ctypes(result), kind_of_c(found[1]))


class Loading(unittest.TestCase):
    def run_with(self, library):
        code = "import whisperengine\ntry: whisperengine.library_version()\nexcept ImportError as e: print(e)"
        return subprocess.run([helpers.sys.executable, "-c", code], stdout=subprocess.PIPE, text=True,
                              env={**os.environ, "WHISPERENGINE_LIBRARY": library}).stdout

    def test_a_missing_library_says_what_to_do(self):
        self.assertIn("pip install ./python", self.run_with("/nowhere/libwhisperengine.so"))

    def test_another_library_is_told_from_ours(self):
        import ctypes.util
        other = ctypes.util.find_library("z")
        if not other:
            self.skipTest("no other library at hand")
        self.assertIn("has no we_version", self.run_with(other))


if __name__ == "__main__":
    unittest.main()
