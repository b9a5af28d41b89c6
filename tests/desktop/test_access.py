#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""How the desktop program gets along with what is around it: assistive technology, narrow screens, a second start, notifications."""
import os
import re
import subprocess
import unittest

from desk import Desk, turn, wait_for
from gi.repository import Gio, GLib
import pyatspi
import standins

NOTIFICATIONS = "org.freedesktop.Notifications"
NOTIFICATIONS_XML = f"""<node><interface name='{NOTIFICATIONS}'>
<method name='Notify'><arg type='s' direction='in'/><arg type='u' direction='in'/><arg type='s' direction='in'/>
<arg type='s' direction='in'/><arg type='s' direction='in'/><arg type='as' direction='in'/><arg type='a{{sv}}' direction='in'/>
<arg type='i' direction='in'/><arg type='u' direction='out'/></method>
<method name='CloseNotification'><arg type='u' direction='in'/></method>
<method name='GetCapabilities'><arg type='as' direction='out'/></method>
<method name='GetServerInformation'><arg type='s' direction='out'/><arg type='s' direction='out'/><arg type='s' direction='out'/>
<arg type='s' direction='out'/></method>
<signal name='ActionInvoked'><arg type='u'/><arg type='s'/></signal></interface></node>"""


class Notifications:
    """Whoever shows notifications on this bus."""

    def __init__(self, bus):
        self.bus, self.shown = bus, []
        info = Gio.DBusNodeInfo.new_for_xml(NOTIFICATIONS_XML)
        self.object = bus.register_object("/org/freedesktop/Notifications", info.interfaces[0], self._call, None, None)
        self.id = Gio.bus_own_name_on_connection(bus, NOTIFICATIONS, Gio.BusNameOwnerFlags.NONE, None, None)

    def _call(self, bus, sender, path, interface, method, parameters, invocation):
        answer = None
        if method == "Notify":
            self.shown.append(parameters.unpack())
            answer = GLib.Variant("(u)", (len(self.shown),))
        elif method == "GetCapabilities":
            answer = GLib.Variant("(as)", (["actions", "body"],))
        elif method == "GetServerInformation":
            answer = GLib.Variant("(ssss)", ("test", "test", "1", "1.2"))
        invocation.return_value(answer)

    def click(self):
        self.bus.emit_signal(None, "/org/freedesktop/Notifications", NOTIFICATIONS, "ActionInvoked",
                             GLib.Variant("(us)", (len(self.shown), "default")))

    def close(self):
        self.bus.unregister_object(self.object)
        Gio.bus_unown_name(self.id)


class Access(Desk):
    def nameless(self):
        """What the keyboard reaches and a screen reader could not name."""
        found = []
        for node in self.nodes():
            if node.getState().contains(pyatspi.STATE_FOCUSABLE) and not (node.name or "").strip():
                found.append(f"{node.getRoleName()} in {node.parent.getRoleName()} {node.parent.name}")
        return found

    def test_everything_has_a_name(self):
        text = "Look:\n\n```c\nint x = 1;\n```\n\n| a | b |\n|---|---|\n| 1 | 2 |\n\n- [x](http://example.org)\n"
        with standins.OpenAI(pieces=[text]) as server:
            self.start(LLM_CHAT_API_URL=f"http://{server.host}/v1#tiny")
            self.assertEqual(self.nameless(), [])
            self.type("Show code")
            self.sees("int x = 1;")
            self.assertEqual(self.nameless(), [])
            for action, seen in (("monitor", "Time to First Token"), ("rename", "Rename Chat"), ("system", "System Prompt")):
                self.activate(action, window=True)
                self.sees(seen)
                self.assertEqual(self.nameless(), [], action)
                subprocess.run(["xdotool", "key", "Escape"], check=True)
                turn(0.3)
            self.activate("model", window=True)
            wait_for("the models", lambda: self.named("Built-in model", pyatspi.ROLE_LIST_ITEM))
            self.assertEqual(self.nameless(), [])
            wait_for("the end", lambda: not self.rows("SELECT 1 FROM message WHERE state = 1"))
        self.quit()

    def width(self):
        out = subprocess.run(["xdotool", "getwindowgeometry", self.window[-1]], capture_output=True, text=True).stdout
        return int(re.search(r"Geometry: (\d+)x", out)[1])

    def test_it_fits_a_narrow_screen(self):
        """GTK lets no window be narrower than what is in it: so 360 pixels are enough, with an answer on every page."""
        text = "A `word` and " + "averylongwordthatgoeson" * 9 + "\n\n```c\n" + "int x; " * 40 + "\n```\n\n|" + " column |" * 9 + "\n|" + "---|" * 9 + "\n"
        with standins.OpenAI(pieces=[text]) as server:
            self.start(LLM_CHAT_API_URL=f"http://{server.host}/v1#tiny", MLX_MEMORY_POOL_SIZE="1")
            self.type("Wide things")
            wait_for("the answer", lambda: self.rows("SELECT 1 FROM message WHERE role = 1 AND state = 0"))
            for page in ("chat", "monitor"):
                if page == "monitor":
                    self.activate("monitor", window=True)
                subprocess.run(["xdotool", "windowsize", self.window[-1], "360", "640"], check=True)
                turn(1)
                self.assertEqual(self.width(), 360, page)
        self.quit()

    def test_text_grows_and_stays_so(self):
        self.start()
        for _ in range(2):
            self.activate("zoom-in")
        wait_for("the size", lambda: self.rows("SELECT value FROM memo WHERE name = 'zoom'") == [("125",)])
        for _ in range(20):
            self.activate("zoom-out")
        wait_for("the smallest", lambda: self.rows("SELECT value FROM memo WHERE name = 'zoom'") == [("70",)])
        self.activate("zoom-reset")
        wait_for("the usual", lambda: self.rows("SELECT value FROM memo WHERE name = 'zoom'") == [("100",)])
        self.quit()

    def test_a_second_start_shows_the_first(self):
        self.start()
        program = os.path.join(os.environ["WE_BUILD_DIR"], "whisperengine-desktop")
        env = dict(os.environ, HOME=self.home, ASAN_OPTIONS=os.environ.get("ASAN_OPTIONS", "") + ":detect_leaks=0")
        again = subprocess.Popen([program], env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self.addCleanup(again.kill)
        self.assertEqual(wait_for("its end", lambda: again.poll() is not None and [again.returncode])[0], 0)
        self.assertIsNone(self.process.poll())
        self.quit()

    def test_an_answer_to_nobody_is_announced(self):
        shown = Notifications(self.bus)
        self.addCleanup(shown.close)
        folder = os.path.join(self.home, ".config/whisperengine")
        os.makedirs(folder)
        with open(os.path.join(folder, "desktop.ini"), "w", encoding="utf-8") as file:
            file.write("[desktop]\nbackground=1\n")
        with standins.OpenAI(pieces=["A long ", "answer."], wait_s=2) as server:
            self.start(LLM_CHAT_API_URL=f"http://{server.host}/v1#tiny")
            self.type("Take your time")
            subprocess.run(["xdotool", "key", "ctrl+w"], check=True)
            wait_for("the closed window", lambda: not self.find_window())
            self.assertEqual(wait_for("a word about it", lambda: shown.shown)[0][3], "WhisperEngine Keeps Running")     # no tray here
            name, _, _, title, body = wait_for("the answer's notification", lambda: shown.shown[1:])[0][:5]
            self.assertEqual((name, title, body), ("whisperengine-desktop", "Take your time", "A long answer."))
            shown.click()
            wait_for("the window", self.find_window)
            self.sees("A long answer.")
        self.quit()


if __name__ == "__main__":
    unittest.main(verbosity=2, warnings="ignore")     # pyatspi's own
