"""The report over known figures: goals, comparison, files that are wrong, and the HTML page."""

from __future__ import annotations

import copy
import html.parser
import json
import pathlib
import subprocess
import sys
import tempfile
import unittest

sys.dont_write_bytecode = True
ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "bench"), str(pathlib.Path(__file__).parent)]

import synthetic_results as synthetic  # noqa: E402
from report import compare, families, goals, machine, model, page, plots, software_goals, svg, units  # noqa: E402
from report.measure import Measured, Missing  # noqa: E402


def parsed(raw: dict) -> model.Results:
    return model.parse(raw, "made up")


def outcome_of(outcomes: list, words: str) -> goals.RowOutcome:
    return next(one for one in outcomes if words in one.row.what)


def result_in(raw: dict, suite: str, name: str, variant: str, **parameters: object) -> dict:
    results = next(one for one in raw["suites"] if one["suite"] == suite)["results"]
    return next(
        one
        for one in results
        if one["name"] == name
        and one["variant"] == variant
        and all(one["parameters"].get(key) == value for key, value in parameters.items())
    )


def scaled(result: dict, factor: float) -> None:
    for one in [*result["rounds"], result]:
        for field in model.PERCENTILES:
            one[field] *= factor
    result["histogram"] = [[upper * factor, count] for upper, count in result.get("histogram", [])]


def run_report(*arguments: object) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-B", "-m", "report", *map(str, arguments)],
        cwd=ROOT / "bench",
        capture_output=True,
        text=True,
        check=False,
    )


class Folder(unittest.TestCase):
    def setUp(self) -> None:
        self.folder = tempfile.TemporaryDirectory()
        self.addCleanup(self.folder.cleanup)

    def write(self, name: str, raw: object) -> str:
        path = pathlib.Path(self.folder.name) / name
        path.write_text(raw if isinstance(raw, str) else json.dumps(raw), encoding="utf-8")
        return str(path)

    def path(self, name: str) -> pathlib.Path:
        return pathlib.Path(self.folder.name) / name


class Goals(Folder):
    def test_a_ratio_is_the_median_of_the_ratios_of_rounds(self) -> None:
        raw = synthetic.whole_run()
        bare = result_in(raw, "ring_bench", "round_trip_mean", "bare_cache_line")
        ours = result_in(raw, "ring_bench", "round_trip_mean", "vgpu", bytes=64)
        # The machine doubles its speed half-way: per round the ratios are 1.01, 1.02, 1.00, 1.04 and 1.03.
        for one, base, value in zip(range(5), (50, 50, 100, 100, 100), (50.5, 51, 100, 104, 103)):
            bare["rounds"][one]["p50"], ours["rounds"][one]["p50"] = base, value
        found = outcome_of(goals.evaluate(parsed(raw)), "ring round trip").outcomes[0]
        self.assertAlmostEqual(found.figure.value, 1.02)
        self.assertEqual(found.verdict, "met")

    def test_the_limit_itself_meets_a_goal_and_a_little_more_does_not(self) -> None:
        for value, verdict in ((105.0, "met"), (105.2, "not met")):
            raw = synthetic.whole_run()
            for one in result_in(raw, "ring_bench", "round_trip_mean", "bare_cache_line")["rounds"]:
                one["p50"] = 100.0
            for one in result_in(raw, "ring_bench", "round_trip_mean", "vgpu", bytes=64)["rounds"]:
                one["p50"] = value
            self.assertEqual(outcome_of(goals.evaluate(parsed(raw)), "ring round trip").verdict, verdict)

    def test_one_way_is_compared_with_the_best_peer(self) -> None:
        raw = synthetic.whole_run()
        for result in next(one for one in raw["suites"] if one["suite"] == "ring_bench")["results"]:
            if result["name"] == "stream" and result["parameters"]["bytes"] == 64:
                cost = {"vgpu": 6.0, "dpdk_rte_ring": 20.0}.get(result["variant"], 30.0)
                for one in result["rounds"]:
                    one["p50"] = cost
        found = outcome_of(goals.evaluate(parsed(raw)), "one way").outcomes[0]
        self.assertAlmostEqual(found.figure.value, 0.3)
        self.assertIn("rte_ring", found.figure.basis)

    def test_copies_count_with_their_worst_size_of_16_mib_and_more(self) -> None:
        raw = synthetic.whole_run(noise=0.0)
        bad = result_in(raw, "transport_bench", "copy", "pageable_to_host", bytes=1 << 28)
        base = result_in(raw, "transport_bench", "copy", "memcpy", bytes=1 << 28)
        for one, other in zip(bad["rounds"], base["rounds"]):
            one["p50"] = other["p50"] * 0.5
        row = outcome_of(goals.evaluate(parsed(raw)), "pageable copy")
        self.assertEqual([one.verdict for one in row.outcomes], ["met", "not met"])
        self.assertAlmostEqual(row.outcomes[1].figure.value, 0.5)
        self.assertEqual(row.verdict, "not met")

    def test_exit_status_is_0_only_when_all_goals_are_met(self) -> None:
        raw = synthetic.whole_run(noise=0.001)
        self.assertEqual(run_report("goals", self.write("good.json", raw)).returncode, 0)
        for one in result_in(raw, "transport_bench", "idle_cpu", "vgpu")["rounds"]:
            one["p50"] = 10.0  # the goal is less than 10 ms
        found = run_report("goals", self.write("bad.json", raw))
        self.assertEqual(found.returncode, 1)
        self.assertIn("10 of 11 goals met", found.stdout)
        self.assertRegex(found.stdout, r"idle system.*10\.0 ms.*not met")

    def test_a_document_gets_a_line_for_every_row(self) -> None:
        lines = goals.markdown(goals.evaluate(parsed(synthetic.whole_run(noise=0.001)))).splitlines()
        self.assertEqual(len(lines), 2 + len(goals.GOALS))
        self.assertEqual({line.count("|") for line in lines}, {5})

    def test_a_file_of_the_software_device_is_held_against_its_own_goals(self) -> None:
        raw = synthetic.software_run(vgpu_over_cpu=0.9)
        found = run_report("goals", self.write("software.json", raw))
        self.assertEqual(found.returncode, 1)
        self.assertIn("3 of 5 goals met", found.stdout)
        generation = next(
            one for one in goals.evaluate(parsed(raw), software_goals.SOFTWARE_GOALS) if "generation" in one.row.what
        )
        self.assertEqual(
            [one.verdict for one in generation.outcomes], ["met", "not met", "not met", "met", "met"], found.stdout
        )
        self.assertIn("0.90 × (0.90 to 0.90)", found.stdout)

    def test_a_start_counts_beyond_loading_the_model(self) -> None:
        raw = synthetic.software_run(vgpu_over_cpu=1.0, start_seconds=2.05, loading_seconds=0.1)
        start = outcome_of(goals.evaluate(parsed(raw), software_goals.SOFTWARE_GOALS), "cold start")
        self.assertEqual(start.verdict, "met")
        self.assertAlmostEqual(start.outcomes[1].figure.value, 1.95e9, delta=1)

    def test_confinement_counts_with_the_model_that_pays_most(self) -> None:
        raw = synthetic.software_run(vgpu_over_cpu=1.0)
        scaled(result_in(raw, "llama_bench", "kernels_at_best", "vgpu_unconfined", model="Q4_0"), 0.8)
        row = outcome_of(goals.evaluate(parsed(raw), software_goals.SOFTWARE_GOALS), "confinement")
        self.assertEqual(row.verdict, "not met")
        self.assertAlmostEqual(row.outcomes[0].figure.value, 1.02 * 1.25)

    def test_a_row_without_results_is_not_measured_and_not_met(self) -> None:
        raw = synthetic.whole_run(noise=0.001)
        raw["suites"] = [one for one in raw["suites"] if one["suite"] != "model_load"]
        raw["failures"] = [{"suite": "model_load", "reason": "no model"}]
        found = run_report("goals", self.write("missing.json", raw))
        self.assertEqual(found.returncode, 1)
        self.assertRegex(found.stdout, r"model load.* - .*not measured")
        self.assertIn("not measured: model_load failed: no model", found.stdout)

    def test_a_skipped_case_gives_its_own_reason(self) -> None:
        raw = synthetic.whole_run()
        transport = next(one for one in raw["suites"] if one["suite"] == "transport_bench")
        transport["results"] = [one for one in transport["results"] if one["name"] != "device_wake_up"]
        transport["skipped"] = [{"name": "device_wake_up", "variant": "vgpu", "parameters": {}, "why": "one core only"}]
        found = outcome_of(goals.evaluate(parsed(raw)), "wake-up").outcomes[0]
        self.assertIsInstance(found.figure, Missing)
        self.assertIn("one core only", found.figure.reason)

    def test_every_row_of_a_whole_run_is_measured(self) -> None:
        for row in goals.evaluate(parsed(synthetic.whole_run())):
            for one in row.outcomes:
                self.assertIsInstance(one.figure, Measured, f"{row.row.what}: {one.check.what}")


class Compare(Folder):
    def test_noise_alone_is_hardly_ever_taken_for_a_change(self) -> None:
        changed, compared = [], 0
        for noise in (0.005, 0.02, 0.04):
            for seed in (1, 2):
                old = synthetic.whole_run(seed=2 * seed, noise=noise, samples=60)
                new = synthetic.whole_run(seed=2 * seed + 1, noise=noise, samples=60)
                found = compare.compare(parsed(old), parsed(new))
                changed += [one.line() for one in found.worse + found.better]
                compared += found.compared
        self.assertGreater(compared, 1200)
        self.assertLessEqual(len(changed), 2, changed)

    def test_a_planted_regression_is_named_alone(self) -> None:
        old, new = synthetic.whole_run(seed=1), synthetic.whole_run(seed=2)
        scaled(result_in(new, "transport_bench", "launch_submit", "cuLaunchKernel", parameters=8, timed="burst"), 1.3)
        found = run_report("compare", self.write("old.json", old), self.write("new.json", new))
        self.assertEqual(found.returncode, 1)
        worse = [line for line in found.stdout.splitlines() if line.startswith("worse")]
        self.assertTrue(worse)
        for line in worse:
            self.assertIn("transport_bench/launch_submit/cuLaunchKernel[parameters=8,timed=burst]", line)

    def test_a_rate_that_falls_is_worse_and_one_that_rises_is_better(self) -> None:
        old, new = synthetic.whole_run(seed=1), synthetic.whole_run(seed=2)
        scaled(result_in(new, "transport_bench", "copy", "pinned_to_device", bytes=1 << 24), 0.7)
        scaled(result_in(new, "transport_bench", "copy", "pinned_to_host", bytes=1 << 24), 1.4)
        found = compare.compare(parsed(old), parsed(new))
        self.assertEqual([one.result.variant for one in found.worse], ["pinned_to_device"])
        self.assertEqual([one.result.variant for one in found.better], ["pinned_to_host"])

    def test_a_slower_machine_is_not_a_slower_ring(self) -> None:
        old, new = synthetic.whole_run(seed=1), synthetic.whole_run(seed=2)
        for variant in ("vgpu", "bare_cache_line"):
            scaled(result_in(new, "ring_bench", "round_trip_mean", variant, bytes=64), 1.4)
        found = compare.compare(parsed(old), parsed(new))
        self.assertEqual(found.worse, [])
        self.assertIn("vgpu", [one.result.variant for one in found.machine])
        self.assertEqual(run_report("compare", self.write("a.json", old), self.write("b.json", new)).returncode, 0)

    def test_a_ring_slower_against_its_baseline_is_worse(self) -> None:
        old, new = synthetic.whole_run(seed=1), synthetic.whole_run(seed=2)
        scaled(result_in(new, "ring_bench", "round_trip_mean", "vgpu", bytes=64), 1.3)
        found = compare.compare(parsed(old), parsed(new))
        self.assertEqual(
            {one.result.path() for one in found.worse},
            {"ring_bench/round_trip_mean/vgpu[bytes=64,placement=same_cache]"},
        )

    def test_fewer_than_five_rounds_are_not_judged(self) -> None:
        old, new = synthetic.whole_run(seed=1, rounds=4), synthetic.whole_run(seed=2, rounds=4)
        found = compare.compare(parsed(old), parsed(new))
        self.assertEqual(found.compared, 0)
        self.assertIn("too few rounds", compare.report(found))

    def test_results_of_one_file_alone_are_named(self) -> None:
        old, new = synthetic.whole_run(seed=1), synthetic.whole_run(seed=2)
        result_in(new, "kernel_bench", "empty_kernel", "submit")["variant"] = "post"
        text = compare.report(compare.compare(parsed(old), parsed(new)))
        self.assertIn("only in the old file: kernel_bench/empty_kernel/submit", text)
        self.assertIn("only in the new file: kernel_bench/empty_kernel/post", text)


class Files(Folder):
    def refused(self, raw: object) -> str:
        with self.assertRaises(model.BadFile) as caught:
            model.load(self.write("bad.json", raw))
        return str(caught.exception)

    def test_another_format_is_refused(self) -> None:
        self.assertIn("format 2", self.refused({"format": 2, "suite": "ring_bench", "results": []}))

    def test_what_is_no_json_is_refused(self) -> None:
        self.assertIn("not JSON", self.refused("{"))

    def test_a_result_without_figures_is_refused_by_name(self) -> None:
        raw = synthetic.ring_bench(synthetic.Maker(samples=100))
        broken = next(one for one in raw["results"] if (one["name"], one["variant"]) == ("round_trip", "vgpu"))
        broken["rounds"][2] = {"p50": "fast"}
        self.assertIn("round_trip/vgpu", self.refused(raw))

    def test_two_results_of_one_name_are_refused(self) -> None:
        raw = synthetic.ring_bench(synthetic.Maker(samples=100))
        raw["results"].append(raw["results"][0])
        self.assertIn("two results", self.refused(raw))

    def test_merged_suites_read_back_as_they_were(self) -> None:
        make = synthetic.Maker(samples=100)
        one, other = synthetic.ring_bench(make), synthetic.model_load(make)
        environment = {"load": [0, 0, 0], "processes": [], "steal": 0, "warnings": ["the load average is 3.0"]}
        out = self.path("all.json")
        found = run_report(
            "merge",
            "--environment",
            "ring_bench:" + self.write("m.json", environment),
            "--suite",
            self.write("a.json", one),
            "--failed",
            "kernel_bench:it: broke",
            "--suite",
            self.write("b.json", other),
            "--out",
            out,
            "--commit",
            "abc",
            "--mode",
            "quick",
        )
        self.assertEqual(found.returncode, 0, found.stderr)
        results = model.load(out)
        self.assertEqual([suite.name for suite in results.suites], ["ring_bench", "model_load"])
        self.assertEqual(len(list(results)), len(one["results"]) + len(other["results"]))
        self.assertEqual(results.failure("kernel_bench"), "kernel_bench failed: it: broke")
        self.assertIn("the load average is 3.0", page.render(results))

    def test_a_missing_file_is_an_error_not_a_trace(self) -> None:
        found = run_report("goals", self.path("nowhere.json"))
        self.assertEqual(found.returncode, 2)
        self.assertIn("nowhere.json", found.stderr)
        self.assertNotIn("Traceback", found.stderr)


class Page(Folder):
    class Reader(html.parser.HTMLParser):
        """Collects text and links, and checks that every element is closed in its turn."""

        VOID = {"meta", "br", "link", "img", "hr", "input"}

        def __init__(self) -> None:
            super().__init__()
            self.open: list[str] = []
            self.text: list[str] = []
            self.links: list[str] = []
            self.tags: list[str] = []
            self.problems: list[str] = []

        def handle_starttag(self, tag: str, attrs: list) -> None:
            self.tags.append(tag)
            self.links += [value for name, value in attrs if name in ("href", "src", "xlink:href") and value]
            if tag not in self.VOID:
                self.open.append(tag)

        def handle_startendtag(self, tag: str, attrs: list) -> None:
            self.tags.append(tag)

        def handle_endtag(self, tag: str) -> None:
            if not self.open or self.open.pop() != tag:
                self.problems.append(f"</{tag}> at {self.getpos()}")

        def handle_data(self, data: str) -> None:
            self.text.append(data)

    def read(self, raw: dict) -> Page.Reader:
        reader = self.Reader()
        reader.feed(page.render(parsed(raw)))
        reader.close()
        self.assertEqual(reader.problems, [])
        self.assertEqual(reader.open, [])
        return reader

    def test_the_page_holds_every_result_and_every_goal(self) -> None:
        raw = synthetic.whole_run()
        reader = self.read(raw)
        text = "".join(reader.text)
        for result in parsed(raw):
            for field in ("p50", "p99", "max"):
                self.assertIn(units.quantity(result.summary[field], result.unit), text, result.path())
        self.assertEqual(
            reader.tags.count("tr") - len(raw["suites"]) - 1,
            len(list(parsed(raw))) + sum(1 + len(row.checks) for row in goals.GOALS),
        )
        for row in goals.GOALS:
            self.assertIn(row.what, text)
        for word in ("Made-up CPU", "0123456789ab", "this machine has no two processors placed so"):
            self.assertIn(word, text)

    def test_the_page_needs_nothing_beside_it(self) -> None:
        reader = self.read(synthetic.whole_run())
        self.assertEqual([link for link in reader.links if not link.startswith("#")], [])
        self.assertNotIn("script", reader.tags)
        self.assertNotIn("url(", page.render(parsed(synthetic.whole_run(samples=50))))

    def test_no_figure_holds_a_position_that_is_no_number(self) -> None:
        text = page.render(parsed(synthetic.whole_run()))
        for word in ("nan", "inf"):
            self.assertNotRegex(text, rf'"[^"]*\b{word}\b[^"]*"')

    def test_names_from_the_file_cannot_break_the_page(self) -> None:
        raw = synthetic.whole_run(samples=50)
        odd = '<b>"x" & y</b>'
        result = copy.deepcopy(raw["suites"][2]["results"][0])
        result["name"], result["variant"] = odd, odd
        raw["suites"][2]["results"].append(result)
        raw["suites"][2]["machine"]["cpu"] = odd
        reader = self.read(raw)
        self.assertNotIn("b", reader.tags)
        self.assertIn(odd, "".join(reader.text))

    def test_an_unknown_suite_and_a_single_sample_still_make_a_page(self) -> None:
        make = synthetic.Maker(samples=1, rounds=1)
        self.read(
            synthetic.merged(
                synthetic.suite(
                    "new_bench", [make.latency("thing", "vgpu", 5.0), make.single("share", "vgpu", 0.0, "rate", "1/s")]
                )
            )
        )
        self.read(synthetic.merged())

    def test_a_report_can_be_made_again_from_its_file(self) -> None:
        out = self.path("report.html")
        self.assertEqual(
            run_report("render", self.write("r.json", synthetic.whole_run(samples=50)), "--out", out).returncode, 0
        )
        self.assertTrue(out.read_text(encoding="utf-8").startswith("<!DOCTYPE html>"))


class Words(unittest.TestCase):
    def test_quantities_have_three_digits_and_a_unit(self) -> None:
        for value, unit, text in (
            (76.12, "ns", "76.1 ns"),
            (999.7, "ns", "1.00 µs"),
            (0.0123, "s", "12.3 ms"),
            (11.24e9, "B/s", "11.2 GB/s"),
            (9.38e6, "1/s", "9.38 M/s"),
            (1.048, "x", "1.05 ×"),
            (0, "ns", "0 ns"),
            (9.999, "ns", "10.0 ns"),
            (0.00456, "ns", "0.00456 ns"),
        ):
            self.assertEqual(units.quantity(value, unit), text)
        self.assertEqual(
            [units.size(one) for one in (64, 1024, 16 << 20, 1 << 30, 1500)],
            ["64 B", "1 KiB", "16 MiB", "1 GiB", "1.46 KiB"],
        )

    def test_shares_are_of_plain_memcpy(self) -> None:
        raw = synthetic.whole_run(noise=0.0)
        transport = next(one for one in raw["suites"] if one["suite"] == "transport_bench")
        for result in [one for one in transport["results"] if one["variant"] == "memcpy"]:
            other = copy.deepcopy(result)
            other["variant"] = "memcpy_huge_pages"
            scaled(other, 3)
            transport["results"].append(other)
        text = page.render(parsed(raw))
        self.assertIn("pageable to device, 16 MiB: 0.92 ×", text)
        self.assertIn("Share of memcpy&#x27;s speed", text)

    def test_labels_that_would_overlap_are_moved_apart_in_order(self) -> None:
        placed = svg.dodge([10.0, 11.0, 12.0, 90.0], 14, 0, 100)
        for one, other in zip(placed, placed[1:]):
            self.assertGreaterEqual(other - one, 13.9)

    def test_a_size_axis_is_labelled_in_powers_of_two(self) -> None:
        self.assertEqual(svg.Log(64, 1 << 30, 0, 100).size_ticks(5), [64.0, 2048.0, 65536.0, 2097152.0, 67108864.0])

    def test_families_stand_in_the_order_in_which_they_are_told(self) -> None:
        titles = [family.title for family in families.of(parsed(synthetic.whole_run(samples=50)).suites[0])]
        self.assertEqual(titles, ["Round trip between two processes", "One way, nobody waits"])

    def test_a_strip_says_its_verdict_to_who_cannot_see_it(self) -> None:
        outcome = goals.evaluate(parsed(synthetic.whole_run(samples=50)))[0].outcomes[0]
        self.assertIn(f'aria-label="{outcome.verdict}: {outcome.measured}', plots.goal_strip(outcome))


class Busy(unittest.TestCase):
    def test_a_busy_machine_is_named_and_an_idle_one_is_not(self) -> None:
        idle = {"load": [0.1, 0.1, 0.1], "processes": [], "steal": 0.0}
        self.assertEqual(machine.warnings(idle), [])
        busy = {**idle, "processes": [{"name": "cc1plus", "pid": 1, "share_of_a_core": 0.97}], "steal": 0.1}
        text = " ".join(machine.warnings(busy))
        self.assertIn("cc1plus (97 %)", text)
        self.assertIn("10 %", text)

    def test_a_process_that_computes_is_seen(self) -> None:
        ready = "import sys\nprint(flush=True)\nwhile True: pass"
        with subprocess.Popen([sys.executable, "-c", ready], stdout=subprocess.PIPE) as child:
            try:
                child.stdout.readline()
                self.assertIn(child.pid, [one["pid"] for one in machine.observe(0.3)["processes"]])
            finally:
                child.kill()


if __name__ == "__main__":
    unittest.main()
