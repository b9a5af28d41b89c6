#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""What stands beside the desktop program: its entry in the applications menu, its AppStream description, its translations. Each part
needs a tool of that world (desktop-file-utils, appstream, gettext) and is left out without it."""
import glob
import os
import re
import shutil
import subprocess
import tempfile
import unittest

SOURCE = os.environ["WE_SOURCE_DIR"]
ID = "org.whisperengine.WhisperEngine"


def needs(tool):
    return unittest.skipUnless(shutil.which(tool), f"{tool} was not found")


def messages(path):
    """The texts of a .po file: {what the program says: its translation}."""
    found, key, parts = {}, None, {}
    with open(path, encoding="utf-8") as file:
        for line in list(file) + ["\n"]:
            begin = re.match(r'(msgid_plural|msgid|msgstr(?:\[\d\])?) "(.*)"$', line)
            more = re.match(r'"(.*)"$', line)
            if begin:
                key = begin[1]
                parts[key] = begin[2]
            elif more:
                parts[key] += more[1]
            elif parts and not line.strip():
                found[parts.get("msgid", "")] = parts.get("msgstr", parts.get("msgstr[0]", ""))
                parts = {}
    return found


class Files(unittest.TestCase):
    def run_clean(self, *command):
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        self.assertEqual(done.returncode, 0, done.stdout)
        return done.stdout

    @needs("desktop-file-validate")
    def test_the_entry_in_the_applications_menu(self):
        said = self.run_clean("desktop-file-validate", os.path.join(SOURCE, "packaging", ID + ".desktop"))
        self.assertEqual(said, "")

    @needs("appstreamcli")
    def test_the_description_for_software_centres(self):
        self.run_clean("appstreamcli", "validate", "--no-net",
                       os.path.join(os.environ["WE_BUILD_DIR"], "packaging", ID + ".metainfo.xml"))

    @needs("xgettext")
    def test_every_text_is_translated(self):
        sources = sorted(glob.glob("app/desktop/**/*.c", root_dir=SOURCE, recursive=True)
                         + glob.glob("app/desktop/gtk/*.ui", root_dir=SOURCE))
        with tempfile.TemporaryDirectory() as folder:
            pot = os.path.join(folder, "all.pot")
            subprocess.run(["xgettext", "-k_", "-kN_", "-kg_dngettext:2,3", "--from-code=UTF-8", "--no-location", "-o", pot, *sources],
                           cwd=SOURCE, check=True)
            wanted = [text for text in messages(pot) if text]
        self.assertGreater(len(wanted), 100)
        for po in glob.glob(os.path.join(SOURCE, "po", "*.po")):
            have = messages(po)
            self.assertEqual([text for text in wanted if not have.get(text)], [], po)
            self.assertEqual([text for text in have if text and text not in wanted], [], f"{po}: nobody says these any more")


if __name__ == "__main__":
    unittest.main(verbosity=2)
