#!/usr/bin/env python3
"""The Python package against the bundled model: as a wheel in an empty folder, as users have it.

usage: python_test.py BUILD_DIR MODEL SOURCE_DIR
"""
import gc
import math
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import unittest
import zipfile

build, model_path, source = pathlib.Path(sys.argv[1]), sys.argv[2], pathlib.Path(sys.argv[3])
(wheel,) = build.glob("smelt-*.whl")
site = tempfile.mkdtemp()
zipfile.ZipFile(wheel).extractall(site)
sys.path.insert(0, site)
import smelt  # noqa: E402

QUESTION = [{"role": "user", "content": "What is 12 + 30?"}]


class Package(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.model = smelt.Model.open(model_path, n_threads=2)

    @classmethod
    def tearDownClass(cls):
        cls.model.close()

    def greedy(self, prompt, **options):
        return self.model.generate(prompt, temperature=0, **options)

    def test_chat_answers(self):
        answer = self.model.chat(QUESTION, temperature=0)
        self.assertIn("42", answer.text)
        self.assertEqual(answer.finish_reason, "stop")
        self.assertEqual(answer.usage.n_prompt, len(self.model.chat_prompt(QUESTION).tokens))
        self.assertIn("12 + 30", self.model.chat_prompt(QUESTION).text)

    def test_pieces_add_up(self):
        pieces = list(self.model.start("Once upon", max_tokens=12, temperature=0))
        whole = self.greedy("Once upon", max_tokens=12)
        self.assertEqual("".join(p.text for p in pieces), whole.text)
        self.assertEqual([t.id for p in pieces for t in p.tokens], [t.id for t in whole.tokens])

    def test_company_changes_nothing(self):
        prompts = ["One", "Two", "Three", "Four", "Five"]
        together = self.model.generate_all(prompts, max_tokens=8, temperature=0)
        self.assertEqual([a.text for a in together], [self.greedy(p, max_tokens=8).text for p in prompts])

    def test_a_seed_repeats(self):
        first, second = (self.model.generate("Once", max_tokens=10, temperature=1.5, seed=7).text for _ in range(2))
        self.assertEqual(first, second)

    def test_forms_hold(self):
        self.assertRegex(self.greedy("x", regex="[0-9]{3}").text, r"^[0-9]{3}$")
        self.assertIn(self.greedy("x", json_schema={"type": "boolean"}).text, ("true", "false"))
        self.assertEqual(self.greedy("x", gbnf='root ::= "yes"').text, "yes")

    def test_stop_and_length(self):
        free = self.greedy("Once upon", max_tokens=12).text
        stopped = self.greedy("Once upon", max_tokens=12, stop=free[3:6])
        self.assertEqual((stopped.text, stopped.finish_reason), (free[:3], "stop"))
        self.assertEqual(self.greedy("Once upon", max_tokens=3).finish_reason, "length")

    def test_logprobs(self):
        token = self.greedy("Once", max_tokens=1, logprobs=3).tokens[0]
        self.assertEqual(token.top[0], (token.id, token.logprob))
        self.assertEqual(len(token.top), 3)
        self.assertLessEqual(sum(math.exp(p) for _, p in token.top), 1.0001)
        self.assertIsNone(self.greedy("Once", max_tokens=1).tokens[0].logprob)

    def test_tokens_there_and_back(self):
        for text in ("", "héllo ✓\n", "a\0b", "<|im_end|>"):
            self.assertEqual(self.model.detokenize(self.model.tokenize(text)), text)
        self.assertEqual(len(self.model.tokenize("<|im_end|>")), 1)
        self.assertGreater(len(self.model.tokenize("<|im_end|>", parse_special=False)), 1)
        ids = self.model.tokenize("Once upon")
        self.assertEqual(self.greedy(ids, max_tokens=5).text, self.greedy("Once upon", max_tokens=5).text)

    def test_embeddings(self):
        a, b = self.model.embed(["one", "two"])
        self.assertEqual(len(a), self.model.dim)
        self.assertAlmostEqual(sum(x * x for x in a), 1, places=4)
        self.assertNotEqual(a, b)
        self.assertEqual(self.model.embed("one")[0], a)
        self.assertEqual(len(self.model.embed("one", dimensions=8)[0]), 8)

    def test_pictures_are_seen(self):
        folder = source / "models" / "demo-vl"
        with smelt.Model.open(folder, n_threads=1, n_ctx=256) as model:
            self.assertTrue(model.takes_pictures)
            asked = {"role": "user", "content": "How many red circles are there?"}
            for picture in (folder / "scene.png", str(folder / "scene.png"), (folder / "scene.png").read_bytes()):
                self.assertIn("There are 3 red circles", model.chat([{**asked, "pictures": [picture]}], temperature=0).text)
            with self.assertRaisesRegex(smelt.InvalidArgumentError, r"messages\[0\]: pictures\[0\]"):
                model.chat_prompt([{**asked, "pictures": [b"GIF89a"]}])
            with self.assertRaises(FileNotFoundError):
                model.chat_prompt([{**asked, "pictures": ["no-such.png"]}])
        self.assertFalse(self.model.takes_pictures)

    def test_errors_name_the_thing(self):
        cases = [
            (smelt.InvalidArgumentError, "temperature", {"temperature": -1}),
            (smelt.InvalidArgumentError, "max_tokens", {"max_tokens": "many"}),
            (smelt.InvalidArgumentError, "top_k", {"top_k": 2**40}),
            (smelt.InvalidArgumentError, "seed", {"seed": -1}),
            (smelt.InvalidArgumentError, "pattern", {"regex": "("}),
            (smelt.InvalidArgumentError, "stop", {"stop": "a\0b"}),
            (TypeError, "temprature", {"temprature": 1}),
        ]
        for kind, word, options in cases:
            with self.subTest(word), self.assertRaisesRegex(kind, word):
                self.model.generate("x", **options)
        with self.assertRaisesRegex(smelt.OpenError, "/no/such/model"):
            smelt.Model.open("/no/such/model")
        with self.assertRaisesRegex(smelt.InvalidArgumentError, "pooling"):
            self.model.embed("x", pooling="max")
        for tokens in (["a"], [10**6], [-1]):
            with self.assertRaises(smelt.InvalidArgumentError):
                self.model.generate(tokens)
        self.assertIsInstance(smelt.InvalidArgumentError(""), ValueError)

    def test_a_closed_model_says_so(self):
        with smelt.Model.open(model_path, n_threads=1) as model:
            generation = model.start("Once upon", max_tokens=3, temperature=0)
        self.assertEqual(len(generation.finish().tokens), 3)
        with self.assertRaisesRegex(smelt.InvalidArgumentError, "closed"):
            model.tokenize("x")

    def test_cancel(self):
        generation = self.model.start("Once", temperature=0)
        next(generation)
        generation.cancel()
        self.assertEqual(generation.finish().finish_reason, "cancelled")
        for _ in range(5):  # left alone, it ends too, and makes room
            next(self.model.start("Once", temperature=0))
        gc.collect()
        self.greedy("Once", max_tokens=1)

    def test_a_full_queue_is_busy(self):
        with smelt.Model.open(model_path, n_threads=1, max_queue=2, max_sequences=1) as model:
            held = []
            with self.assertRaises(smelt.BusyError):
                for _ in range(20):
                    held.append(model.start("Once", temperature=0))
            self.assertGreaterEqual(len(held), 2)

    def test_other_threads_run_meanwhile(self):
        counter, ended = [0], threading.Event()

        def count():
            while not ended.is_set():
                counter[0] += 1
                time.sleep(0.001)

        thread = threading.Thread(target=count)
        thread.start()
        before = counter[0]
        self.greedy("Once", max_tokens=200)
        after = counter[0]
        ended.set()
        thread.join()
        self.assertGreater(after - before, 10)


class Text(unittest.TestCase):
    def test_the_page_runs(self):
        page = (source / "docs/PYTHON.md").read_text()
        blocks = re.findall(r"```python\n(.*?)```", page, re.S)
        self.assertTrue(blocks)
        for block in blocks:
            subprocess.run([sys.executable, "-c", block], check=True, cwd=source, env={"PYTHONPATH": site}, capture_output=True)

    def test_types(self):
        mypy = shutil.which("mypy")
        if mypy is None:
            self.skipTest("mypy is not installed")
        for version in ("3.9", "3.12"):
            check = subprocess.run(
                [mypy, "--strict", "--enable-incomplete-feature=Unpack", "--python-version", version, "--cache-dir", site, str(source / "python/smelt")],
                capture_output=True, text=True,
            )
            self.assertEqual(check.returncode, 0, check.stdout)


if __name__ == "__main__":
    try:
        unittest.main(argv=sys.argv[:1])
    finally:
        shutil.rmtree(site)
