#!/usr/bin/env python3
"""Tests of launch/plot.py with made-up files of reports, kept positions, fidelity, scores and needles."""
import json

from plot_case import PlotCase, main

from plots import budgets, fidelity, kept, score


def request(name="a", shift=0, evicted=True, layers=3) -> dict:
    return {"id": name, "prompt_tokens": 100, "evicted": evicted, "layers": [
        {"layer": i, "entropy": 1.0, "variance": 0.1, "preference": 0.1 * 10 ** i, "budget": 10 * i + shift, "kept": 9}
        for i in range(layers)]}


def report(requests: list, **cells) -> str:
    policy = {"name": "cake", "cache_size": 256, "share": "preference", **cells}
    return json.dumps({"schema": "cake.report/1", "command": "batch", "config": {"policy": policy},
                       "model": {"path": "models/small.gguf"}, "requests": requests})


def table(header: str, *rows) -> str:
    return "\n".join([header, *(",".join(map(str, row)) for row in rows)]) + "\n"


FIDELITY = ("text,policy,cache_size,prompt_tokens,positions,kept_percent,kl_mean,kl_p99,top1_agreement,perplexity,"
            "perplexity_full,attention_error")


def fidelity_row(text="a.txt", policy="cake", size=128, kl=0.5):
    return text, policy, size, 1000, 256, size / 10 or 100, kl, 4, 0.9, 12, 11, 0.2


def fidelity_csv() -> str:
    return table(FIDELITY, *(fidelity_row(text, policy, size, 64 / size if size else 0) for text in ("a.txt", "b.txt")
                             for policy, size in (("full", 0), ("cake", 128), ("cake", 256),
                                                  ("cake:share=uniform", 128), ("cake:share=uniform", 256))))


def positions_csv(extra="") -> str:
    return table(f"text,policy,cache_size{extra},position,kl,agrees,nll,nll_full",
                 *(("a.txt", policy, size, *([500] if extra else []), position, 0.1 * position, 1, 2.5, 2.4)
                   for policy, size in (("full", 0), ("cake", 128), ("snapkv", 128), ("cake", 64))
                   for position in range(1, 65)))


LAYERS = table("text,policy,cache_size,layer,budget,kept,attention_error",
               *(("a.txt", policy, 128, layer, 90, 122, 0.1 * layer) for policy in ("cake", "snapkv")
                 for layer in range(4)))
NEEDLE = "policy,cache_size,form,length,depth,needles,trials,score"


class Reports(PlotCase):
    def test_draws_budgets_and_preferences_of_every_policy(self):
        files = {"batch.json": report([request("a"), request("b", 5)]),
                 "pyramid.json": report([request()], name="pyramidkv")}
        result = self.draw(files, "--format", "svg")
        self.assert_drawn(result, "budgets", "preference_by_layer")
        for word in ("layer", "prompt", "b", "budget, tokens (without the window)", "cake, C = 256",
                     "pyramidkv, C = 256"):
            self.assertIn(word, self.words("budgets"))
        self.assertIn("preference (no unit)", self.words("preference_by_layer"))
        self.assertIn("b", self.words("preference_by_layer"))

    def test_many_prompts_are_a_mean_and_a_band(self):
        result = self.draw({"batch.json": report([request(f"p{i}") for i in range(9)])}, "--format", "svg")
        self.assert_drawn(result, "budgets", "preference_by_layer")
        self.assertIn("mean of 9 prompts", self.words("preference_by_layer"))
        self.assertNotIn("p3", self.words("preference_by_layer"))

    def test_policies_of_one_name_are_told_apart_by_their_cells(self):
        def of(share):
            return {"model": "m", "policy": {"name": "cake", "cache_size": 64, "share": share, "gamma": 200}}
        names = list(budgets.groups([of("preference"), of("uniform"), of("uniform")]))
        self.assertEqual(names, ["m\ncake, C = 64, share preference", "m\ncake, C = 64, share uniform"])

    def test_leaves_out_prompts_that_lost_nothing_and_says_so(self):
        short = request("short", evicted=False)
        result = self.draw({"batch.json": report([request(), short, {"id": "no layers"}])}, "--format", "svg")
        self.assert_drawn(result, "budgets", "preference_by_layer")
        self.assertIn("left out: budgets: 2 prompts that lost no token", result.stdout)
        self.assertNotIn("short", self.words("budgets"))
        nothing = self.draw({"batch.json": report([short | {"layers": None}])})
        self.assertIn("budgets.png: it needs reports with layers", nothing.stdout)
        self.assertIn("preference_by_layer.png: it needs reports with layers", nothing.stdout)

    def test_leaves_out_prompts_of_another_depth(self):
        result = self.draw({"batch.json": report([request("a"), request("b", layers=4)])}, "--format", "svg")
        self.assert_drawn(result, "budgets", "preference_by_layer")
        self.assertIn("left out: budgets: 1 prompts whose number of layers", result.stdout)
        self.assertNotIn("b", self.words("budgets"))

    def test_names_of_files_are_no_formulas(self):
        result = self.draw({"batch.json": report([request("$x"), request("$y_{")])}, "--format", "svg")
        self.assert_drawn(result, "budgets", "preference_by_layer")

    def test_refuses_a_report_that_is_not_whole(self):
        wrong = request() | {"layers": [{"layer": 0, "preference": 1}]}
        for text, message in ((report([wrong]), "request a: a layer without budget"),
                              (report([wrong | {"layers": "x"}]), "request a: a layer without budget"),
                              (report(["a"]), "requests is no list of objects"),
                              ('{"schema": "cake.report/1", "requests": []}', "config.policy or model is missing"),
                              (report([request()])[:-9], "report.json:1: this is not JSON")):
            self.assert_refused(self.draw({"report.json": text}), message)


class Kept(PlotCase):
    def test_shade_is_the_part_of_heads(self):
        parts, width = kept.shares([[[0, 3], [3]], [[1, 2, 3], [0, 2, 3]]], 4)
        self.assertEqual(width, 1)
        self.assertEqual(parts.tolist(), [[0.5, 0, 0, 1], [0.5, 0.5, 1, 1]])

    def test_columns_of_a_long_prompt_are_means_over_their_positions(self):
        length = 2 * kept.BINS + 1  # three to a column, the last column has fewer
        parts, width = kept.shares([[[0, 1, length - 1]]], length)
        self.assertEqual(width, 3)
        self.assertEqual(parts.shape, (1, 267))
        self.assertAlmostEqual(parts[0, 0], 2 / 3)
        self.assertEqual(parts[0, -1], 1 / (length - 3 * 266))
        self.assertEqual(parts[0, 1:-1].sum(), 0)

    def test_draws_the_first_prompt_of_each_file(self):
        both = {"requests": [{"id": i, "layers": [[[0, 5], [5]], [[4, 5], [3, 5]]]} for i in ("0", "1")]}
        result = self.draw({"kept.json": json.dumps(both), "more.json": json.dumps(both)}, "--format", "svg")
        self.assert_drawn(result, "kept")
        self.assertIn("left out: kept: 2 prompts", result.stdout)
        for word in ("position, tokens", "layer", "part of the KV heads that kept it"):
            self.assertIn(word, self.words("kept"))
        self.assertEqual(sum(word.endswith("prompt 0, 6 tokens") for word in self.words("kept")), 2)

    def test_refuses_what_holds_no_positions(self):
        for layers in (None, [], [[]], [[[]]], [[3]], [[["a"]]], [[[-1]]], [[[1e9]]], [[[1 << 40]]]):
            result = self.draw({"kept.json": json.dumps({"requests": [{"id": "7", "layers": layers}]})})
            self.assert_refused(result, "request 7: no positions of layers and KV heads")


class Fidelity(PlotCase):
    def test_draws_all_three_files(self):
        files = {"fidelity.csv": fidelity_csv(), "positions.csv": positions_csv(), "layers.csv": LAYERS}
        result = self.draw(files, "--format", "svg")
        self.assert_drawn(result, "kl_by_kept", "kl_by_cache", "kl_by_position", "error_by_layer")
        self.assertNotIn("left out", result.stdout)
        for word in ("tokens kept, % of the prompt", "KL from the full cache, nats", "cake:share=uniform",
                     "mean of 2 texts"):
            self.assertIn(word, self.words("kl_by_kept"))
        self.assertIn("256", self.words("kl_by_cache"))
        self.assertNotIn("full", self.words("kl_by_kept"))
        self.assertIn("C = 128, one text, running mean over 5 positions", self.words("kl_by_position"))
        self.assertIn("C = 128, one text", self.words("error_by_layer"))

    def test_a_cache_size_can_be_chosen(self):
        files = {"positions.csv": positions_csv()}
        self.assert_drawn(self.draw(files, "--format", "svg", "--cache-size", "64"), "kl_by_position")
        self.assertIn("C = 64, one text, running mean over 5 positions", self.words("kl_by_position"))
        self.assertNotIn("snapkv", self.words("kl_by_position"))
        self.assert_refused(self.draw(files, "--cache-size", "65"), "--cache-size 65: positions.csv has 0, 64, 128")

    def test_means_are_over_texts_that_all_have(self):
        rows = [{"text": text, "policy": policy, "cache_size": size, "kl_mean": kl} for text, policy, size, kl in (
            ("a", "full", 0, 0), ("a", "cake", 8, 1), ("b", "cake", 8, 3), ("c", "cake", 8, 50), ("a", "h2o", 8, 2),
            ("b", "h2o", 8, 4))]
        common, texts = fidelity.of_common_texts(rows, "test")
        self.assertEqual(texts, 2)
        self.assertEqual(fidelity.means(common, ["policy"], "kl_mean"), {("cake",): 2, ("h2o",): 3})

    def test_smoothing_has_as_many_neighbours_on_each_side_as_there_are(self):
        self.assertEqual(fidelity.running_mean([1, 2, 6, 3], 3), [1.5, 3, 11 / 3, 4.5])
        self.assertEqual(fidelity.running_mean([1, 2], 1), [1, 2])

    def test_one_cache_size_is_that_of_most_policies_and_of_equals_the_smallest(self):
        def chosen(*cells):
            rows = [{"policy": policy, "cache_size": size} for policy, size in cells]
            return {row["cache_size"] for row in fidelity.one_cache_size(rows)}
        self.assertEqual(chosen(("full", 0), ("a", 64), ("a", 256), ("b", 256), ("a", 512), ("b", 512)), {256})
        self.assertEqual(chosen(("full", 0)), set())

    def test_leaves_out_what_no_logarithmic_axis_has(self):
        result = self.draw({"fidelity.csv": table(FIDELITY, fidelity_row(), fidelity_row(size=1024, kl=0))})
        self.assert_drawn(result, "kl_by_kept", "kl_by_cache")
        self.assertIn("left out: kl_by_kept: 1 points whose KL is not above 0", result.stdout)

    def test_leaves_out_pictures_without_rows(self):
        files = {"fidelity.csv": table(FIDELITY, fidelity_row(policy="full", size=0, kl=0)),
                 "positions.csv": table("text,policy,cache_size,position,kl", ("a", "full", 0, 1, 0)),
                 "layers.csv": table("text,policy,cache_size,layer,attention_error", ("a", "cake", 8, 0, 0.1),
                                     ("b", "h2o", 8, 0, 0.1))}
        result = self.draw(files)
        self.assert_drawn(result)
        self.assertEqual(result.stdout.count("left out: "), 4)

    def test_lengths_of_a_text_are_texts_of_their_own(self):
        text = positions_csv(",prompt_tokens")
        longer = text.replace(",500,", ",900,").split("\n", 1)[1]
        result = self.draw({"positions.csv": text + longer}, "--format", "svg")
        self.assert_drawn(result, "kl_by_position")
        self.assertIn("C = 128, mean of 2 texts, running mean over 5 positions", self.words("kl_by_position"))

    def test_refuses_bad_tables(self):
        whole = fidelity_csv()
        cases = ((whole.replace("kl_mean", "kl"), "fidelity.csv: no column kl_mean; it looks like fidelity.csv"),
                 (table(FIDELITY), "fidelity.csv: has no rows"),
                 (table(FIDELITY, fidelity_row(kl="nan")), "fidelity.csv:2: kl_mean is 'nan', which is no number"),
                 (table(FIDELITY, fidelity_row(kl="")), "fidelity.csv:2: kl_mean is ''"),
                 (whole.replace(",128,", ",128.5,"), "cache_size is '128.5', which is no whole number"),
                 (whole[:-5], "fidelity.csv:11: 11 of 12 columns; was the line cut short?"),
                 (table(FIDELITY, fidelity_row(), fidelity_row()),
                  "two rows of text a.txt (1000 tokens), policy cake, cache_size 128"),
                 ("policy,cache_size,tokens\ncake,1,2\n", "this is not JSON, nor a table that is known"))
        for text, message in cases:
            self.assert_refused(self.draw({"fidelity.csv": text}), message)


class Scores(PlotCase):
    def test_draws_scores_of_the_tasks_that_all_have(self):
        files = {f"{name}/result.json": json.dumps(scores) for name, scores in (
            ("full", {"qasper": 40, "trec": 70, "lcc": 1}), ("cake-128", {"qasper": 30, "trec": 60}),
            ("cake-1024", {"qasper": 35, "trec": 65}), ("cake:share=uniform-128", {"qasper": 20, "trec": 60}))}
        result = self.draw(files, "--format", "svg")
        self.assert_drawn(result, "score_by_cache")
        self.assertIn("left out: score_by_cache: tasks that not all folders have: lcc", result.stdout)
        for word in ("cake", "cake:share=uniform", "full", "1,024", "qasper, trec", "LongBench score, 0 to 100",
                     "cache size, tokens a layer"):
            self.assertIn(word, self.words("score_by_cache"))

    def test_a_folder_is_a_policy_and_a_size(self):
        results = [{"name": name, "tasks": {"qasper": 1}} for name in ("full", "h2o-64", "a-b-8", "old", "h2o-0")]
        self.assertEqual(list(score.cells(results)), [("full", None), ("h2o", 64), ("a-b", 8)])

    def test_leaves_out_what_is_no_cell(self):
        result = self.draw({"mine/result.json": '{"qasper": 1}',
                            "cake-64/result.json": '{"qasper": {"0-4k": 1, "4-8k": null, "8k+": 2}}'})
        self.assert_drawn(result)
        self.assertIn("mine: the folder's name is no policy and cache size", result.stdout)
        self.assertIn("cake-64: scores by length (LongBench-E)", result.stdout)
        self.assertIn("score_by_cache.png: it needs result.json in folders", result.stdout)

    def test_refuses_one_cell_twice_and_what_holds_no_scores(self):
        one = '{"qasper": 1}'
        self.assert_refused(self.draw({"a/cake-64/result.json": one, "b/cake-64/result.json": one}),
                            "two rows of name cake-64")
        for text in ('{"qasper": "1"}', "{}", '{"qasper": NaN}', "[" * 100000):
            self.assert_refused(self.draw({"cake-64/result.json": text}), "result.json")


class Needle(PlotCase):
    def test_draws_a_heat_map_for_each_form(self):
        rows = [(policy, size, form, length, depth, needles, 5, 0.64) for policy, size in (("full", 0), ("cake", 256))
                for form, needles in (("single", 1), ("multi", 2), ("multi", 3), ("kv", 1)) for length in (1000, 4000)
                for depth in (0, 50, 100)]
        result = self.draw({"needle.csv": table(NEEDLE, *rows)}, "--format", "svg")
        self.assert_drawn(result, "needle_single", "needle_multi", "needle_kv")
        for word in ("prompt, tokens", "depth, %", "found, %", "4,000", "50", "64", "full", "cake, C = 256"):
            self.assertIn(word, self.words("needle_single"))
        self.assertEqual(self.words("needle_single").count("64"), 12)
        self.assertEqual(self.words("needle_multi").count("3 facts"), 2)
        self.assertIn("needle_by_length.svg: it needs rows without a depth", result.stdout)

    def test_draws_rows_without_depth_against_the_length(self):
        rows = [("cake", size, "kv", length, "", 1, 9, 0.5) for size in (64, 256) for length in (2000, 4000)]
        result = self.draw({"needle.csv": table(NEEDLE, *rows)}, "--format", "svg")
        self.assert_drawn(result, "needle_by_length")
        for word in ("kv", "cake, C = 64", "cake, C = 256", "found, %", "prompt, tokens", "2,000"):
            self.assertIn(word, self.words("needle_by_length"))

    def test_refuses_bad_rows(self):
        row = ("cake", 64, "single", 1000, 50, 1, 9, 0.5)
        for text, message in ((table(NEEDLE.replace("score", "mark"), row), "needle.csv: no column score"),
                              (table(NEEDLE, row, row), "two rows of policy cake, cache_size 64, form single"),
                              (table(NEEDLE, row[:4] + ("deep",) + row[5:]), "needle.csv:2: depth is 'deep'")):
            self.assert_refused(self.draw({"needle.csv": text}), message)


class Arguments(PlotCase):
    def test_files_of_all_kinds_are_drawn_at_once(self):
        files = {"report.json": report([request()]), "layers.csv": LAYERS, "cake-64/result.json": '{"qasper": 1}'}
        self.assert_drawn(self.draw(files), "budgets", "preference_by_layer", "error_by_layer", "score_by_cache")

    def test_a_file_that_is_not_there_or_no_text_is_refused(self):
        self.assert_refused(self.run_plot("none.csv", "--output", "out"), "none.csv: cannot be read")
        self.assert_refused(self.run_plot(str(self.folder), "--output", "out"), "cannot be read")
        (self.folder / "model.gguf").write_bytes(b"GGUF\xff\xfe\x00")
        self.assert_refused(self.run_plot(str(self.folder / "model.gguf"), "--output", "out"), "cannot be read")

    def test_a_folder_that_cannot_be_made_is_refused(self):
        (self.folder / "out").write_text("a file")
        self.assert_refused(self.draw({"layers.csv": LAYERS}), "out: cannot be written")


if __name__ == "__main__":
    main()
