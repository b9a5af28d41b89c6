#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""The settings of the desktop program: each page's rows change the configuration that the command reads too, what the environment
sets is locked, the chain is put in another order by keys and by dragging, and the API key goes to a secret service
(a stand-in on this test's own bus) or, without one, to the user's file."""
import json
import os
import stat
import subprocess
import unittest

import desk
from desk import Gio, GLib, pyatspi, turn, wait_for
import hub  # noqa: E402: desk knows where these are
import standins  # noqa: E402
from support import ScriptedModel  # noqa: E402

SERVICE = "org.freedesktop.secrets"
ROOT = "/org/freedesktop/secrets"
SECRET = "(oayays)"
XML = f"""<node>
<interface name='org.freedesktop.Secret.Service'>
<method name='OpenSession'><arg type='s' direction='in'/><arg type='v' direction='in'/><arg type='v' direction='out'/><arg type='o' direction='out'/></method>
<method name='SearchItems'><arg type='a{{ss}}' direction='in'/><arg type='ao' direction='out'/><arg type='ao' direction='out'/></method>
<method name='Unlock'><arg type='ao' direction='in'/><arg type='ao' direction='out'/><arg type='o' direction='out'/></method>
<method name='GetSecrets'><arg type='ao' direction='in'/><arg type='o' direction='in'/><arg type='a{{o{SECRET}}}' direction='out'/></method>
<method name='ReadAlias'><arg type='s' direction='in'/><arg type='o' direction='out'/></method>
<property name='Collections' type='ao' access='read'/></interface>
<interface name='org.freedesktop.Secret.Collection'>
<method name='CreateItem'><arg type='a{{sv}}' direction='in'/><arg type='{SECRET}' direction='in'/><arg type='b' direction='in'/><arg type='o' direction='out'/><arg type='o' direction='out'/></method>
<property name='Items' type='ao' access='read'/><property name='Label' type='s' access='read'/></interface>
<interface name='org.freedesktop.Secret.Item'>
<method name='Delete'><arg type='o' direction='out'/></method>
<property name='Locked' type='b' access='read'/></interface></node>"""


class Secrets:
    """A secret service that keeps its secrets in a dictionary: attributes (as JSON) to bytes."""

    def __init__(self, bus):
        self.bus, self.kept, self.paths = bus, {}, {}
        service, collection, self.item = Gio.DBusNodeInfo.new_for_xml(XML).interfaces
        empty = lambda *a: GLib.Variant("ao", [])  # noqa: E731
        self.ids = [bus.register_object(ROOT, service, self.call, empty, None),
                    bus.register_object(ROOT + "/aliases/default", collection, self.call, empty, None)]
        self.name = Gio.bus_own_name_on_connection(bus, SERVICE, Gio.BusNameOwnerFlags.NONE, None, None)

    def close(self):
        Gio.bus_unown_name(self.name)
        for i in self.ids:
            self.bus.unregister_object(i)
        turn()

    def call(self, bus, sender, path, interface, method, parameters, invocation):
        given = parameters.unpack()
        if method == "OpenSession":
            if given[0] != "plain":
                return invocation.return_dbus_error("org.freedesktop.DBus.Error.NotSupported", "plain only")
            reply = GLib.Variant("(vo)", (GLib.Variant("s", ""), ROOT + "/session/1"))
        elif method == "SearchItems":
            found = [p for p, key in self.paths.items() if key in self.kept and given[0].items() <= json.loads(key).items()]
            reply = GLib.Variant("(aoao)", (found, []))
        elif method == "GetSecrets":
            reply = GLib.Variant(f"(a{{o{SECRET}}})", ({p: (given[1], b"", self.kept[self.paths[p]], "text/plain") for p in given[0]},))
        elif method == "CreateItem":
            key = json.dumps(given[0]["org.freedesktop.Secret.Item.Attributes"], sort_keys=True)
            self.kept[key] = bytes(given[1][2])
            item = f"{ROOT}/collection/login/{len(self.ids)}"
            self.paths[item] = key
            self.ids.append(self.bus.register_object(item, self.item, self.call, lambda *a: GLib.Variant("b", False), None))
            reply = GLib.Variant("(oo)", (item, "/"))
        elif method == "Delete":
            self.kept.pop(self.paths[path], None)
            reply = GLib.Variant("(o)", ("/",))
        elif method == "ReadAlias":
            reply = GLib.Variant("(o)", (ROOT + "/aliases/default",))
        else:
            reply = GLib.Variant("(aoo)", (given[0], "/"))
        invocation.return_value(reply)
        return None


class Settings(desk.Desk):
    def env_file(self):
        return os.path.join(self.home, ".config/whisperengine/env")

    def kept(self):
        try:
            return self.bytes_of(self.env_file()).decode()
        except FileNotFoundError:
            return ""

    def command(self, *args, **env):
        """The command, in the same home: what it reads is what the window wrote."""
        done = subprocess.run([os.path.join(os.environ["WE_BUILD_DIR"], "whisperengine"), *args], cwd=self.home, capture_output=True,
                              text=True, env=dict(os.environ, HOME=self.home, ASAN_OPTIONS="detect_leaks=0", **env))
        return done

    def value(self, name):
        return {v["name"]: v for v in json.loads(self.command("config", "--json").stdout)}[name]

    def open(self, page, **env):
        self.start(**env)
        self.activate("preferences")
        self.show(page)

    def quit(self):
        super().quit()
        self.assertNotIn("g_object_weak_unref", self.log())
        self.assertNotIn("WARNING", self.log())

    def show(self, page):
        wait_for(page, lambda: self.named(page, pyatspi.ROLE_PAGE_TAB)).queryAction().doAction(0)

    def nodes(self):
        """Of the settings, where they are open: without what each tab and scroll bar is made of."""
        desktop = pyatspi.Registry.getDesktop(0)
        for i in range(desktop.childCount):
            app = desktop.getChildAtIndex(i)
            if app is None or app.name != "whisperengine-desktop":
                continue
            windows = [app.getChildAtIndex(k) for k in range(app.childCount)]
            for window in windows:
                if len(windows) == 1 or window.name != "WhisperEngine":
                    yield from self.below(window)

    def below(self, node, depth=0):
        if node is None or depth > 40:
            return
        yield node
        if node.getRole() not in (pyatspi.ROLE_PAGE_TAB, pyatspi.ROLE_SCROLL_BAR, pyatspi.ROLE_IMAGE, pyatspi.ROLE_LABEL):
            for i in range(node.childCount):
                yield from self.below(node.getChildAtIndex(i), depth + 1)

    def spin(self, name):
        return wait_for(name, lambda: self.named(name, pyatspi.ROLE_SPIN_BUTTON))

    def set(self, name, number):
        self.spin(name).queryValue().currentValue = number

    def press(self, label):
        """A button whose words may hold a mnemonic; GTK tells some of them twice, and a dialog has its buttons twice, for narrow
        windows too: only those that are on the screen act."""
        def find():
            return [node for node in self.nodes() if (node.name or "").replace("_", "") in (label, f"{label} {label}") and
                    node.getRole() == pyatspi.ROLE_PUSH_BUTTON and not self.is_locked(node)]
        for node in wait_for(f"the button {label}", find):
            try:
                node.queryAction().doAction(0)
            except (GLib.Error, LookupError, NotImplementedError):  # the dialog is gone with the first one
                pass

    def row(self, name):
        return wait_for(name, lambda: self.named(name, pyatspi.ROLE_LIST_ITEM))

    def is_locked(self, node):
        return not node.getState().contains(pyatspi.STATE_SENSITIVE)

    def test_a_model_is_converted_and_deleted(self):
        models = os.path.join(self.home, "models")
        ScriptedModel().save(os.path.join(models, "mlx", "mine"))
        self.open("Models", LOCAL_MODELS_DIR=models)
        self.press("Convert mine…")
        self.press("Convert")
        self.press("Delete mine-4bit…")                  # once it is listed
        self.assertTrue(os.path.exists(os.path.join(models, "mlx", "mine-4bit", "config.json")))
        self.press("Delete")
        wait_for("its end", lambda: not os.path.exists(os.path.join(models, "mlx", "mine-4bit")))
        self.assertTrue(os.path.exists(os.path.join(models, "mlx", "mine", "config.json")))
        self.quit()

    def test_a_download_shows_how_far_it_is_and_can_be_cancelled(self):
        name, repo = "smollm2-135m-instruct", "mlx-community/SmolLM2-135M-Instruct"
        folder = ScriptedModel().save(os.path.join(self.home, "source"))
        files = {file: self.bytes_of(os.path.join(folder, file)) for file in os.listdir(folder)}
        server = hub.Hub()
        try:
            server.add(repo, files, lfs=["model.safetensors"])
            server.storage_fault = lambda asked: hub.Slow(64 << 10, 0.5)
            self.open("Models", HF_ENDPOINT=server.url, HF_HOME=os.path.join(self.home, "hf"))
            self.press(f"Download {name}")
            self.sees("of 1.8")
            self.press("Cancel")
            wait_for("its end", lambda: not self.named("Cancel"))
            self.assertNotIn(repo, self.texts())
            server.storage_fault = lambda asked: None
            self.press(f"Download {name}")
            self.sees(repo)
            self.assertEqual(self.log().count("ERROR"), 0)
            self.quit()
        finally:
            server.close()

    def test_memory(self):
        self.open("Memory")
        self.sees("Of a full context: ")
        self.set("Context Length", 300)
        self.sees("Of a full context: 300 tokens")
        self.assertIn("MLX_CONTEXT_LENGTH=300\n", self.kept())
        self.set("Memory Limit", 1)
        self.sees("More than the memory limit")
        self.sees("Not available")                       # the model was loaded again, and did not fit
        self.set("Memory Limit", 0)
        wait_for("no limit", lambda: "POOL" not in self.kept())
        self.set("Unload When Idle", 7)
        wait_for("the minutes", lambda: "MLX_UNLOAD_MINUTES=7\n" in self.kept())
        self.assertIn("at a context of 300 tokens", self.command("run", "-v", "--max-tokens", "1", "hi").stderr)
        self.quit()

    def test_tuning(self):
        self.open("Tuning", MLX_TOP_P="0.25")
        top_p = self.spin("Top-p")
        self.assertTrue(self.is_locked(self.row("Top-p")))
        self.assertEqual(top_p.queryValue().currentValue, 0.25)
        self.sees("Set by the environment (MLX_TOP_P)")
        self.set("Temperature", 0)
        wait_for("the temperature", lambda: "MLX_TEMPERATURE=0.00\n" in self.kept())
        self.set("Longest Answer", 2)
        self.set("Threads", 1)
        wait_for("both", lambda: "MLX_MAX_TOKENS=2\n" in self.kept() and "MLX_THREADS=1\n" in self.kept())
        self.switch("Prompt Lookup").queryAction().doAction(0)
        self.switch("Pack When Loading").queryAction().doAction(0)
        wait_for("the switches", lambda: "MLX_PROMPT_LOOKUP=true\n" in self.kept() and "MLX_QUANTIZATION=true\n" in self.kept())
        self.set("Batch Size", 3)
        wait_for("the batch", lambda: "MLX_BATCH_SIZE=3\n" in self.kept())
        self.sees("Kernels")
        done = self.command("run", "-v", "hi")
        self.assertIn("1 threads", done.stderr)
        self.assertIn("answer: 2 tokens", done.stderr)
        self.set("Temperature", -1)                      # below the least: the model's own
        wait_for("no temperature", lambda: "TEMPERATURE" not in self.kept())
        self.quit()

    def test_a_wrong_value_is_named(self):
        os.makedirs(os.path.dirname(self.env_file()))
        with open(self.env_file(), "w", encoding="utf-8") as file:
            file.write("MLX_KV_BITS=5\n")
        os.chmod(self.env_file(), 0o600)
        self.open("Memory")
        self.sees("MLX_KV_BITS is '5'")
        self.sees("expected 16, 8 or 4")
        self.quit()

    def test_the_chain(self):
        with standins.Ollama(models=["tiny"]) as server:
            self.open("Backends", OLLAMA_HOST=server.host, LMSTUDIO_HOST="127.0.0.1:1")
            self.press("Test Ollama")
            self.sees("Answered after")
            subprocess.run(["xdotool", "windowfocus", self.find_window()[-1]], check=True)
            turn(0.3)
            for chain in ("mlx,ollama,lmstudio,llamacpp,transformers", "ollama,mlx,lmstudio,llamacpp,transformers"):
                subprocess.run(["xdotool", "key", "alt+Up"], check=True)
                wait_for(chain, lambda: f"FALLBACK_CHAIN={chain}\n" in self.kept())
            first = json.loads(self.command("backends", "--json", OLLAMA_HOST=server.host).stdout)[0]
            self.assertEqual(first["id"], "ollama")
            turn(0.3)
            subprocess.run(["xdotool", "key", "alt+Down", "alt+Down"], check=True)
            wait_for("the usual order", lambda: "FALLBACK_CHAIN" not in self.kept())
            self.quit()

    def test_the_chain_by_dragging(self):
        """The drag goes by steps, each once the window has seen the one before: GTK takes a button that is held for a drag only
        when the pointer has moved some way."""
        def box(row):
            return wait_for("its place", lambda: row.queryComponent().getExtents(pyatspi.WINDOW_COORDS))

        def point(y, *then):
            box(target)
            subprocess.run(["xdotool", "mousemove", "--window", window, str(x), str(y), *then], check=True)
            turn()

        self.open("Backends", OLLAMA_HOST="127.0.0.1:1", LMSTUDIO_HOST="127.0.0.1:1")
        dragged, target = self.row("Ollama"), self.row("LM Studio")
        window = self.find_window()[-1]
        place = box(dragged)
        x, y, way = place.x + place.width // 3, place.y + place.height // 2, box(target).y - place.y
        point(y, "mousedown", "1")
        for i in range(1, 11):
            point(y + way * i // 10)
        point(y + way, "mouseup", "1")
        wait_for("the order", lambda: "FALLBACK_CHAIN=mlx,ollama,lmstudio,llamacpp,transformers\n" in self.kept())
        self.quit()

    def test_a_locked_chain(self):
        self.open("Backends", FALLBACK_CHAIN="transformers,mlx", LLM_CHAT_API_KEY="mine")
        self.sees("Set by the environment (FALLBACK_CHAIN)")
        self.sees("Set by the environment (LLM_CHAT_API_KEY)")
        self.assertIsNone(self.named("Order"))
        self.quit()

    def type_key(self, key):
        entry = wait_for("the entry", lambda: self.named("API Key", pyatspi.ROLE_TEXT))
        box = entry.queryComponent().getExtents(pyatspi.WINDOW_COORDS)
        window = self.find_window()[-1]
        subprocess.run(["xdotool", "windowfocus", window, "mousemove", "--window", window, str(box.x + 30),
                        str(box.y + box.height // 2), "click", "1"], check=True)
        turn(0.3)
        subprocess.run(["xdotool", "type", "--delay", "8", key], check=True)
        subprocess.run(["xdotool", "key", "Return"], check=True)

    def test_the_key_goes_to_the_secret_service(self):
        secrets = Secrets(self.bus)
        with standins.OpenAI(key="s3cret", pieces=["well"]) as server:
            url = {"LLM_CHAT_API_URL": f"http://{server.host}/v1#tiny"}
            self.open("Backends", **url)
            self.sees("No key is kept.")
            self.type_key("s3cret")
            self.sees("In the secret service of this session")
            self.assertEqual(list(secrets.kept.values()), [b"s3cret"])
            self.assertNotIn("s3cret", self.kept())
            self.assertIn("LLM_CHAT_API_KEY=@secret-service\n", self.kept())
            self.press("Test the Connection")
            self.sees("Answers, with")
            process = subprocess.Popen([os.path.join(os.environ["WE_BUILD_DIR"], "whisperengine"), "run", "hi"], cwd=self.home,
                                       stdout=subprocess.PIPE, text=True, env=dict(os.environ, HOME=self.home, **url))
            wait_for("the command's answer", lambda: process.poll() is not None)     # this loop answers for the service
            self.assertEqual(process.communicate()[0], "well\n")
            self.quit()
        secrets.close()

    def test_without_a_secret_service_the_file_has_the_key(self):
        self.open("Backends")
        self.type_key("s3cret")
        self.sees("which only you can read: no secret service answers here")
        self.assertIn("LLM_CHAT_API_KEY=s3cret\n", self.kept())
        self.assertEqual(stat.S_IMODE(os.stat(self.env_file()).st_mode), 0o600)
        self.quit()


if __name__ == "__main__":
    unittest.main(verbosity=2, warnings="ignore")     # pyatspi's own
