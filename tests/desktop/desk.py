#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""The desktop program, driven as a person would: on a display and a session bus of its own (Xvfb, dbus-run-session), through
AT-SPI and typed keys. A test that imports this module is run once more on such a display; unittest.main() at its end.

Runs where these are found: Xvfb, xdotool, dbus-run-session, pyatspi (of the system's own Python); else it exits with 77, which CTest
shows as skipped. Nothing here depends on how fast the machine is: it waits for what must come, LONG seconds at most."""
import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
import unittest

LONG = 120
NAME = "org.whisperengine.WhisperEngine"
HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(os.path.dirname(HERE), "e2e"))


def begin_again():
    """Run the test once more on a display and a bus of its own."""
    if not all(map(shutil.which, ("Xvfb", "xdotool", "dbus-run-session"))):
        print("Xvfb, xdotool or dbus-run-session was not found: left out")
        return 77
    if subprocess.run([sys.executable, "-c", "import pyatspi"], capture_output=True).returncode:
        print("pyatspi was not found: left out")
        return 77
    reading, writing = os.pipe()
    # Without -noreset it begins anew whenever its last client goes, and turns the next one away meanwhile.
    xvfb = subprocess.Popen(["Xvfb", "-displayfd", str(writing), "-screen", "0", "1100x800x24", "-nolisten", "tcp", "-noreset"],
                            pass_fds=[writing], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    os.close(writing)
    with tempfile.TemporaryDirectory() as home:
        try:
            display = os.read(reading, 100).decode().strip()
            runtime = os.path.join(home, "run")
            os.mkdir(runtime, 0o700)
            keep = {k: os.environ[k] for k in ("PATH", "ASAN_OPTIONS", "UBSAN_OPTIONS", "WE_BUILD_DIR", "WE_SOURCE_DIR",
                                               "WE_SANITIZE", "LSAN_OPTIONS") if k in os.environ}
            env = dict(keep, HOME=home, XDG_RUNTIME_DIR=runtime, DISPLAY=":" + display, WE_IN_SESSION="1", LANG="C.UTF-8",
                       GSK_RENDERER="cairo", GTK_A11Y="atspi", GDK_BACKEND="x11", PYTHONDONTWRITEBYTECODE="1",
                       GSETTINGS_BACKEND="memory", G_SLICE="always-malloc")
            return subprocess.run(["dbus-run-session", "--", sys.executable] + sys.argv, env=env).returncode
        finally:
            xvfb.terminate()
            xvfb.wait()


if "WE_IN_SESSION" not in os.environ:
    sys.exit(begin_again())

import pyatspi  # noqa: E402: only inside the session
from gi.repository import Gio, GLib  # noqa: E402

WATCHER = "org.kde.StatusNotifierWatcher"
WATCHER_XML = f"""<node><interface name='{WATCHER}'>
<method name='RegisterStatusNotifierItem'><arg type='s' direction='in'/></method>
<property name='IsStatusNotifierHostRegistered' type='b' access='read'/></interface></node>"""


def turn(seconds=0.05):
    """Let this program's own bus objects answer for a moment."""
    context, end = GLib.MainContext.default(), time.monotonic() + seconds
    while time.monotonic() < end:
        while context.iteration(False):
            pass
        time.sleep(0.01)


def wait_for(what, test):
    end = time.monotonic() + LONG
    while time.monotonic() < end:
        try:
            found = test()
        except (GLib.Error, RuntimeError, LookupError, sqlite3.Error):     # widgets and files come and go
            found = None
        if found:
            return found
        turn()
    raise AssertionError(f"{what} did not come")


def walk(node, depth=0):
    if node is None or depth > 40:
        return
    yield node
    for i in range(node.childCount):
        yield from walk(node.getChildAtIndex(i), depth + 1)


class Host:
    """A tray: the watcher that items register with, and their properties and menus."""

    def __init__(self, bus):
        self.bus, self.items = bus, []
        info = Gio.DBusNodeInfo.new_for_xml(WATCHER_XML)
        bus.register_object("/StatusNotifierWatcher", info.interfaces[0], self._call, lambda *a: GLib.Variant("b", True), None)
        self.id = Gio.bus_own_name_on_connection(bus, WATCHER, Gio.BusNameOwnerFlags.NONE, None, None)

    def _call(self, bus, sender, path, interface, method, parameters, invocation):
        self.items.append(parameters.unpack()[0])
        invocation.return_value(None)

    def close(self):
        Gio.bus_unown_name(self.id)

    def call(self, path, interface, method, parameters, reply):
        """Without blocking: the item may want an answer of ours first."""
        out = []
        self.bus.call(self.items[-1], path, interface, method, parameters, GLib.VariantType(reply), Gio.DBusCallFlags.NONE, 5000, None,
                      lambda bus, result: out.append(bus.call_finish(result)))
        return wait_for(method, lambda: out)[0].unpack()

    def item(self, name):
        return self.call("/StatusNotifierItem", "org.freedesktop.DBus.Properties", "Get",
                         GLib.Variant("(ss)", ("org.kde.StatusNotifierItem", name)), "(v)")[0]

    def tooltip(self):
        return self.item("ToolTip")[3]

    def menu(self):
        revision, root = self.call("/MenuBar", "com.canonical.dbusmenu", "GetLayout", GLib.Variant("(iias)", (0, -1, [])),
                                   "(u(ia{sv}av))")
        return {child[1].get("label", "-"): child[0] for child in root[2]}

    def click(self, label):
        self.call("/MenuBar", "com.canonical.dbusmenu", "Event",
                  GLib.Variant("(isvu)", (self.menu()[label], "clicked", GLib.Variant("i", 0), 0)), "()")


class Desk(unittest.TestCase):
    def setUp(self):
        self.home = tempfile.mkdtemp(dir=os.environ["HOME"])
        self.bus = Gio.bus_get_sync(Gio.BusType.SESSION)
        self.process = None

    def tearDown(self):
        if self.process and self.process.poll() is None:
            self.process.kill()
            self.process.wait()

    def start(self, leaks=False, **env):
        """leaks: under the address sanitizer, look for them. GTK is built without frame pointers, so that only the slow unwinder
        finds who allocated: a test of ten seconds then, where without it is one."""
        options = ":fast_unwind_on_malloc=0:malloc_context_size=40" if leaks else ":detect_leaks=0"
        env["ASAN_OPTIONS"] = os.environ.get("ASAN_OPTIONS", "") + options
        program = os.path.join(os.environ["WE_BUILD_DIR"], "whisperengine-desktop")
        with open(os.path.join(self.home, "log"), "ab") as log:     # Python ignores SIGXFSZ, so the program hears of a full disk
            self.process = subprocess.Popen([program], env=dict(os.environ, HOME=self.home, **env), stderr=log, stdout=log,
                                            restore_signals=False)
        self.window = wait_for("the window", self.find_window)
        wait_for("the focus", lambda: self.named("Message", pyatspi.ROLE_TEXT))

    def log(self):
        with open(os.path.join(self.home, "log"), encoding="utf-8", errors="replace") as file:
            return file.read()

    def find_window(self):
        if self.process.poll() is not None:
            self.fail(f"the program ended with {self.process.returncode}: {self.log()}")
        out = subprocess.run(["xdotool", "search", "--onlyvisible", "--pid", str(self.process.pid)], capture_output=True, text=True)
        return out.stdout.split()

    def quit(self):
        self.activate("quit")
        self.assertEqual(wait_for("the end", lambda: self.process.poll() is not None and [self.process.returncode])[0], 0, self.log())
        log = self.log()
        self.assertNotIn("CRITICAL", log)
        self.assertNotIn("ERROR: AddressSanitizer", log)

    def activate(self, action, window=False):
        path = "/org/whisperengine/WhisperEngine" + ("/window/1" if window else "")
        self.bus.call(NAME, path, "org.gtk.Actions", "Activate", GLib.Variant("(sava{sv})", (action, [], {})), None,
                      Gio.DBusCallFlags.NONE, -1, None, None)

    # ---- What is on the screen ----

    def nodes(self):
        desktop = pyatspi.Registry.getDesktop(0)
        for i in range(desktop.childCount):
            app = desktop.getChildAtIndex(i)
            if app is not None and app.name == "whisperengine-desktop":
                yield from walk(app)

    def named(self, name, role=None):
        return next((n for n in self.nodes() if n.name == name and role in (None, n.getRole())), None)

    def texts(self):
        found = []
        for node in self.nodes():
            found.append(node.name or "")
            try:
                found.append(node.queryText().getText(0, -1))
            except NotImplementedError:
                pass
        return "\n".join(found)

    def sees(self, text):
        wait_for(f"“{text}”", lambda: text in self.texts())

    def type(self, text):
        subprocess.run(["xdotool", "windowfocus", self.find_window()[-1]], check=True)
        turn(0.3)
        subprocess.run(["xdotool", "type", "--delay", "8", text], check=True)
        wait_for("the letters", lambda: text in self.texts())
        subprocess.run(["xdotool", "key", "Return"], check=True)

    # ---- What is on the disk ----

    def rows(self, sql):
        path = os.path.join(self.home, ".local/share/whisperengine/conversations.sqlite")
        db = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
        try:
            return db.execute(sql).fetchall()
        finally:
            db.close()

    @staticmethod
    def bytes_of(path):
        with open(path, "rb") as file:
            return file.read()

    def switch(self, name):
        roles = (pyatspi.ROLE_CHECK_BOX, pyatspi.ROLE_TOGGLE_BUTTON)     # GTK's mapping has changed
        return next((n for n in self.nodes() if n.name == name and n.getRole() in roles), None)

    def press(self, label):
        """A button, once it can be pressed."""
        def find():
            for node in self.nodes():
                name = node.name.replace("_", "")       # GTK 4.8 says some twice: with the mnemonic, and without
                if name in (label, f"{label} {label}") and node.getRole() in (pyatspi.ROLE_PUSH_BUTTON, pyatspi.ROLE_TOGGLE_BUTTON):
                    states = node.getState()
                    if states.contains(pyatspi.STATE_VISIBLE) and states.contains(pyatspi.STATE_SENSITIVE):
                        return node
            return None
        wait_for(f"the button {label}", find).queryAction().doAction(0)
