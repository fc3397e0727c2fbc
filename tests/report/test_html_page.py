"""The page as a file: what others wrote cannot drive it, it loads nothing, and it stays small."""

import re
from html.parser import HTMLParser

import pytest

from inferometer.analysis.compare import compare
from inferometer.core.request import user_request
from inferometer.metrics.summary import TrialSummary, summarize_view
from inferometer.report import drawings
from inferometer.report.html_page import render
from inferometer.report.page import Page, page
from inferometer.report.svg import visible

LIMIT_BYTES = 6_000_000
HOSTILE = (
    "<script>document.title='owned'</script></script></style><!--<img src=x onerror=alert(1)>"
    "<svg onload=alert(1)>\"' {{ 7*7 }} {% raw %} "
    "\x1b[31mred\x1b[0m \x00\x07 \u202egnp.exe \u2066x\u2069 \ud800 &amp; ]]>"
)


class Tags(HTMLParser):
    """Counts tags, and collects what would load something or act."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: dict[str, int] = {}
        self.acts: list[str] = []
        self.policy = ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags[tag] = self.tags.get(tag, 0) + 1
        for name, value in attrs:
            is_elsewhere = name in ("src", "href", "action", "srcset") and not (value or "").startswith(("#", "data:"))
            if name.startswith("on") or name == "style" or is_elsewhere:
                self.acts.append(f"{tag} {name}={value}")
            if name == "content" and "default-src" in (value or ""):
                self.policy = value


def hostile_page(make) -> Page:
    asked = [
        user_request(HOSTILE, HOSTILE + "x" * 1_000_000, tags={"task": HOSTILE, "language": "go"}),
        *make.requests(3),
    ]
    words = [HOSTILE, "y" * 1_000_000, "end"]
    base = [make.record(0, words=words, request_id=HOSTILE), make.record(1), make.failed(2, error=HOSTILE)]
    draft = [
        make.record(0, words=[*words[:2], HOSTILE], request_id=HOSTILE, draft=(4, 2)),
        make.record(1, finish_reason=HOSTILE),
    ]
    cases = [make.case(name, make.trial(records), requests=asked) for name, records in ((HOSTILE, base), ("b", draft))]
    comparison = compare([summarize_view(trial) for case in cases for trial in case.trials])
    return page(HOSTILE, comparison, cases, [])


@pytest.fixture(scope="module")
def hostile(make) -> str:
    return render(hostile_page(make))


def test_text_of_prompts_models_and_arms_adds_no_tag_no_handler_and_no_address(hostile: str, make):
    found = Tags(hostile)
    assert found.acts == []
    assert (found.tags["script"], found.tags["style"], found.tags.get("img", 0)) == (1, 1, 0)
    assert "owned" in hostile and "<script>document.title" not in hostile
    assert "{{ 7*7 }}" in hostile


def test_control_characters_and_marks_that_turn_text_are_shown_not_obeyed(hostile: str):
    assert re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]", hostile) is None
    assert "␛[31mred␛[0m ␀␇ ⟨U+202E⟩gnp.exe ⟨U+2066⟩x⟨U+2069⟩ \ufffd" in hostile


def test_a_megabyte_of_text_is_cut_and_the_page_says_how_much(hostile: str):
    assert len(hostile.encode()) < 500_000
    assert re.search(r"\[1,000,\d{3} characters omitted\]|\[99\d,\d{3} characters omitted\]", hostile)


def test_the_policy_allows_only_the_page_s_own_script_and_style(hostile: str):
    policy = Tags(hostile).policy
    assert policy.startswith("default-src 'none'; script-src 'sha256-")
    assert "unsafe" not in policy and "http" not in policy


def test_visible_leaves_ordinary_text_alone():
    text = "naïve 日本語 👩‍💻\n\tif x < 3:"
    assert visible(text) == text


def test_many_requests_stay_under_six_megabytes_and_the_page_says_what_is_left_out(make):
    """Every text is as dear as HTML can make it."""
    words = ['"' * 100, "<" * 100, "\x1b" * 100]
    record = make.record(0, words=words)
    slots = {"measured", "outcome", "due_ns", "sent_ns", "done_ns", "events", "finish_reason", "usage"}
    same = {name: getattr(record, name) for name in slots}
    records = [type(record)(index=i, request_id=f"r{i}", **same) for i in range(5_000)]
    asked = [user_request(f"r{i}", f"{i} {'&' * 4000}") for i in range(len(records))]
    case = make.case("a", make.trial(records), requests=asked)
    text = render(page("many", compare([TrialSummary("a", 1, {"output_throughput": 9.0})]), [case], []))
    assert len(text.encode()) < LIMIT_BYTES
    assert "400 of 5,000 requests are shown" in text
    assert "24 of 5,000 requests can be selected" in text
    assert re.search(r"The texts of \d+ of them are omitted", text)


# --- every kind of study has its page -------------------------------------------------------------


def text_of(make, tmp_path, arms) -> str:
    return render(make.page(tmp_path / "s", arms))


def test_one_arm_has_its_value_for_a_verdict_and_no_paired_differences(make, tmp_path):
    text = text_of(make, tmp_path, {"only": [make.trial([make.record(i) for i in range(4)])]})
    assert "only: output token throughput" in text and "Paired differences" not in text


def test_two_arms_have_the_verdict_first_then_findings_table_pictures_requests_and_what_ran(make, tmp_path):
    text = text_of(make, tmp_path, make.two_arms())
    parts = re.findall(r'<section id="(\w+)"', text)
    assert " ".join(parts) == "verdict validity table spread tokens time acceptance memory requests ran"
    assert re.search(r'class="verdict \w*"><p>draft: inconclusive \(−\d+\.\.\+\d+%\)', text)


def test_a_study_whose_trials_all_failed_has_a_page_that_says_so(make, tmp_path):
    trial = make.trial([make.failed(0)], state="failed", error="no engine", plan_started_ns=None)
    text = text_of(make, tmp_path, {"a": [trial], "b": [trial]})
    assert "No verdict: no trial was completed." in text and "no engine" in text


def test_an_invalid_comparison_says_so_before_all_else(make, tmp_path):
    """A draft was asked for and drafted nothing."""
    arms = make.two_arms()
    arms["draft"] = [make.trial([make.record(i, draft=(0, 0)) for i in range(8)], n) for n in (1, 2, 3)]
    text = text_of(make, tmp_path, arms)
    assert 'class="verdict invalid"><p>Not valid: draft' in text and "<p>No verdict is given.</p>" in text


def test_arms_of_two_studies_stand_on_one_page_by_the_names_of_their_folders(make, tmp_path):
    from inferometer.results.study_page import page_of

    folders = [make.folder(tmp_path / name, make.two_arms(3, 2)) for name in ("w7900", "rtx3090")]
    found = page_of(folders, "inferometer")
    assert found.comparison.arms == ("w7900/baseline", "w7900/draft", "rtx3090/baseline", "rtx3090/draft")
    assert [len(one.answers) for one in found.answers_view.shown] == [4, 4, 4]
    assert [ran.folder for ran in found.ran] == ["w7900", "rtx3090"]
    assert "rtx3090/draft" in render(found)


def test_each_picture_has_words_and_numbers_beside_it(make, tmp_path):
    text = text_of(make, tmp_path, make.two_arms())
    pictures = re.findall(r'<svg [^>]*role="img" aria-label="([^"]*)"', text)
    assert len(pictures) > 10 and all(len(words) > 40 for words in pictures)
    assert text.count('<details class="data">') == text.count("<figure>")


# --- the pictures ---------------------------------------------------------------------------------


def test_a_point_of_a_paired_picture_lies_where_its_ratio_says(make, tmp_path):
    """Speeds of ½ and 2 are equally far from 1 on a logarithmic axis."""
    found = make.page(
        tmp_path / "s",
        {
            "base": [make.trial([make.record(0, ttft_ms=100), make.record(1, ttft_ms=100)])],
            "other": [make.trial([make.record(0, ttft_ms=50), make.record(1, ttft_ms=200)])],
        },
    )
    ttft = next(one for one in found.distributions if one.key == "ttft")
    drawn = drawings.paired_ratios(ttft, found.comparison.arms)
    assert drawn is not None
    one_px = float(re.search(r'class="one" d="M([\d.]+) ', drawn.svg)[1])
    points = [float(x) + 0.9 * 2.8 for x in re.findall(r'class="fill-1 faint" d="M([\d.]+) ', drawn.svg)]
    assert points[0] - one_px == pytest.approx(one_px - points[1], abs=0.3)
    assert drawn.rows[1][:5] == ("other", "base", "2", "1", "0.500×")


def test_a_timeline_has_a_stroke_for_each_burst_as_tall_as_its_tokens(make, tmp_path):
    found = make.page(tmp_path / "s", make.two_arms())
    drawn = drawings.token_timeline(found.timelines.shown[2], found.comparison.arms, 720)
    base, draft = re.findall(r'class="line-\d burst" d="([^"]*)"', drawn.svg)
    assert base.count("v") == 12 and set(re.findall(r"v-([\d.]+)", base)) == {"19"}  # one token of the tallest's two
    assert draft.count("v") == 6 and set(re.findall(r"v-([\d.]+)", draft)) == {"32"}
    assert drawn.svg.count('class="stall"') == 1
    assert drawn.rows[2][:5] == ("draft", "1", "ok", "12", "6")
