# SPDX-License-Identifier: Apache-2.0
"""`--device mlx`: the command with the plugin, and what it says of an MLX that is not the one it was built with. Left out where
this build has no plugin."""
import os
import subprocess
import sys
import tempfile
import unittest

from support import BUILD_DIR, EndToEnd, main

PLUGIN = os.path.join(BUILD_DIR, "plugins", "whisperengine-mlx" + (".dylib" if sys.platform == "darwin" else ".so"))


class Mlx(EndToEnd):
    def generate(self, device, **more):
        folder = self.scripted()
        return self.run_we("generate", "--model", folder, "--device", device, "--precise", "--prompt-tokens", "65,66",
                           "--max-tokens", "6", "--output-tokens", **more)

    @unittest.skipUnless(os.path.exists(PLUGIN), "built without MLX")
    def test_the_same_tokens(self):
        self.assertEqual(self.generate("mlx").text, self.generate("cpu").text)

    @unittest.skipUnless(os.path.exists(PLUGIN) and sys.platform == "linux", "built without MLX")
    def test_another_version_is_refused(self):
        with tempfile.TemporaryDirectory() as folder:
            source = os.path.join(folder, "other.c")
            with open(source, "w", encoding="utf-8") as file:
                file.write('const char *version(void) __asm__("_ZN3mlx4core7versionEv");\n'
                           'const char *version(void) { return "0.99.1"; }\n')
            subprocess.run(["cc", "-shared", "-fPIC", "-Wl,-soname,libmlx.so", "-o", os.path.join(folder, "libmlx.so"),
                            source], check=True)
            done = self.generate("mlx", status=1, env={"LD_LIBRARY_PATH": folder})
            self.assertIn("MLX not available. The MLX installed here is 0.99.1, but WhisperEngine was built with", done.notes)
            with open(os.path.join(folder, "libmlx.so"), "wb"):  # no library at all
                pass
            self.assertIn("MLX not available. ", self.generate("mlx", status=1, env={"LD_LIBRARY_PATH": folder}).notes)

    @unittest.skipIf(os.path.exists(PLUGIN), "built with MLX")
    def test_there_is_none(self):
        self.assertIn("MLX not available. This build has no MLX device", self.generate("mlx", status=1).notes)

    def test_kernels_are_the_cpus(self):
        done = self.run_we("generate", "--device", "mlx", "--kernels", "reference", "--prompt-tokens", "1", status=1)
        self.assertIn("the device mlx has no kernels to choose from", done.notes)


if __name__ == "__main__":
    main()
