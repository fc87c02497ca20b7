"""The web view's page in a real browser: what it shows, live, to the end."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from browser import Browser, find_browser
from shown_session import Shown
from web_view import TOKEN, a_session, show_frames, viewing

from rt import clock
from rt.dashboard.strip import EXECUTED, FROZEN, NEW, NOW, OVERLAP, rows
from rt.records import Hold
from rt.testing import config
from rt.web.feed import Feed

EVERYTHING = "plots.length === 24 && times.length > 100 && document.images[0].naturalWidth"
DOING = "document.getElementById('doing').innerText"


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    program = find_browser()
    if program is None:
        pytest.skip("no headless browser: apt-get install chromium-headless-shell, or RT_BROWSER")
    browser = Browser(program, tmp_path_factory.mktemp("browser"))
    yield browser
    browser.close()


@pytest.fixture
def browser(started: Browser) -> Browser:
    started.open("about:blank")
    started.until("location.href === 'about:blank'")
    started.prefer("light")
    started.complaints.clear()
    return started


@pytest.fixture
def shown() -> Iterator[Shown]:
    with a_session() as shown:
        yield shown


def test_everything_is_on_the_page(browser: Browser, shown: Shown) -> None:
    shown.tell("inference", b"loading", b"policy of 3 GB")
    with viewing(shown.session.name) as view:
        browser.open(view.url)
        browser.until(EVERYTHING)
        browser.until("document.images[1].naturalWidth")
        sizes = "[...document.images].map(i => [i.naturalWidth, i.naturalHeight])"
        assert browser.eval(sizes) == [[160, 120], [160, 120]]
        all_of = "[...document.querySelectorAll"
        titles = browser.eval(f"{all_of}('.u-title')].map(t => t.innerText)")
        assert titles == list(shown.config.joint_names)
        page = browser.eval("document.body.innerText")
        for words in (f"session {shown.session.name}", "rtc", "tick 119", "head", "wrist", "p99.9"):
            assert words in page
        for words in ("chunk 4 came late", "no_state 3", "loading", "policy of 3 GB", "7 of 16"):
            assert words in page
        assert browser.eval("document.querySelectorAll('#chunk i').length") == 16
        heights = browser.eval(
            "[...document.querySelectorAll('#jitter i')].map(i => i.offsetHeight)"
        )
        assert len(heights) == 42
        assert max(heights) > 50
        assert browser.eval("document.title") == f"fake: {shown.session.name}"
        assert browser.eval("document.getElementById('dry_run').hidden")
        assert browser.complaints == []


def test_it_is_live(browser: Browser, shown: Shown) -> None:
    with viewing(shown.session.name) as view:
        browser.open(view.url)
        browser.until(EVERYTHING)
        picture = browser.eval("document.images[0].src")
        now = clock.now_ns()
        state = np.deg2rad(np.arange(24))
        shown.again(hold=Hold.ROBOT_FAULT, why=b"too hot", state=state, t_wake=now, t_done=2 * now)
        show_frames(shown)
        browser.until(f"{DOING} === 'holds, robot_fault: too hot'")
        browser.until("plots[7].scales.x.max === 6")
        assert browser.eval("series.map(s => s[0][s[0].length - 1])") == list(range(24))
        browser.until("plots[7].data[1][plots[7].data[1].length - 1] === 7")
        browser.until(f"document.images[0].src !== '{picture}'")
        shown.again(hold=Hold.NONE, why=b"", command=np.nan)
        browser.until(f"{DOING} === 'executes'")
        browser.until("plots[0].data[2][plots[0].data[2].length - 1] === null")
        shown.again(t_done=now - 30_000_000_000)
        browser.until(f"{DOING}.startsWith('no tick for 3')")
        assert browser.complaints == []


def test_only_the_window_is_kept(browser: Browser) -> None:
    with a_session(400) as shown, viewing(shown.session.name) as view:
        browser.open(view.url)
        browser.until(EVERYTHING)
        for _ in range(50):
            shown.again()
        browser.until("times[times.length - 1] === 22.45")
        assert browser.eval("[times[0], times.length]") == [12.45, 201]
        assert browser.eval("series.every(s => s.every(v => v.length === times.length))")
        count = browser.eval("chunks.size")
        ids = browser.eval("[...chunks.keys()]")
        newest = len(ids) and max(ids)
        assert ids == list(range(newest - count + 1, newest + 1))
        assert min(ids) > 0
        assert browser.complaints == []


def test_swaps_are_marked_and_prefix_weights_are_shaded(browser: Browser, shown: Shown) -> None:
    # How opaque the topmost line of a plot's pixels is at these ticks: no curve comes there.
    seen = """(ticks => {
      const plot = plots[3], {ctx, bbox} = plot;
      return ticks.map(tick => {
        const x = Math.round(plot.valToPos(tick / session.control_hz, "x", true));
        return ctx.getImageData(x, Math.round(bbox.top) + 1, 1, 1).data[3];
      });
    })"""
    with viewing(shown.session.name) as view:
        browser.open(view.url)
        browser.until(EVERYTHING)
        browser.until("redraw === 0")
        chunks = browser.eval("[...chunks.values()]")
        swaps = [chunk["first_used_tick"] for chunk in chunks if chunk["first_used_tick"] < 119]
        assert len(swaps) > 3
        assert min(browser.eval(f"{seen}({swaps})")) == 255
        weights = dict.fromkeys(range(20, 119), 0.0)
        for chunk in chunks:
            for row, weight in enumerate(chunk["weights"]):
                tick = chunk["first_tick"] + row
                if tick in weights:
                    weights[tick] = max(weights[tick], weight)
        middles = [tick + 0.5 for tick in weights]
        alphas = dict(zip(weights, browser.eval(f"{seen}({middles})"), strict=True))
        shaded = [alphas[tick] for tick, weight in weights.items() if weight > 0.2]
        bare = [alphas[tick] for tick, weight in weights.items() if not weight]
        assert min(shaded) > 0
        # A swap, or a line of the grid, may be where we look.
        assert np.mean(np.array(shaded) < 255) > 0.7
        assert np.mean(np.array(bare) == 0) > 0.9


def test_what_looks_like_markup_is_shown_as_text(browser: Browser, shown: Shown) -> None:
    evil = b"<img src=x onerror='hacked=1'><script>hacked=1</script>"
    with viewing(shown.session.name) as view:
        browser.open(view.url)
        browser.until(EVERYTHING)
        shown.again(hold=Hold.ROBOT_FAULT, why=evil, t_done=2 * clock.now_ns())
        shown.tell("sim", b"<b>x</b>", evil)
        browser.until(f'{DOING} === "holds, robot_fault: {evil.decode()}"')
        browser.until("document.getElementById('processes').innerText.includes('<script>')")
        assert evil.decode() in browser.text("events")
        assert browser.eval("typeof hacked") == "undefined"
        assert browser.eval("document.images.length") == 2
        assert browser.complaints == []


def test_the_sessions_end_is_told(browser: Browser, shown: Shown) -> None:
    with viewing(shown.session.name) as view:
        browser.open(view.url)
        browser.until(EVERYTHING)
        shown.release_lock()
        assert view.end()[0] == 0
        sentence = f"session '{shown.session.name}' has ended at tick 119"
        browser.until(f'{DOING} === "{sentence}"')
        assert browser.eval("document.body.className") == "over"
        assert browser.eval("plots.length") == 24, "what was last is still there"
        assert browser.complaints == []


def test_a_view_that_is_stopped_is_told_and_found_again(browser: Browser, shown: Shown) -> None:
    with viewing(shown.session.name) as view:
        browser.open(view.url)
        browser.until(EVERYTHING)
        view.process.terminate()
        assert view.end()[0] == 0
        browser.until(f"{DOING}.startsWith('no connection: the view was stopped')")
    shown.again()
    port = view.url.rstrip("/").rsplit(":", 1)[1]
    with viewing(shown.session.name, f"--port={port}"):
        browser.until("document.body.className === '' && times[times.length - 1] === 6")
        assert browser.eval("[times.length, plots.length]") == [121, 24], "from the start, once"


def test_the_address_with_the_token_opens_it_and_without_it_says_so(
    browser: Browser, shown: Shown, tmp_path: Path
) -> None:
    (tmp_path / "TOKEN").write_text(TOKEN + "+&=/%\n")
    with viewing(shown.session.name, f"--token_file={tmp_path / 'TOKEN'}") as view:
        browser.open(view.url)
        browser.until(EVERYTHING)
        assert browser.complaints == []
        browser.open("about:blank")
        browser.until("location.href === 'about:blank'")
        browser.open(view.url.split("#")[0])
        browser.until(f"{DOING} === 'no connection: is the whole address there, with its token?'")


def test_it_fits_a_laptop_light_and_dark(browser: Browser, shown: Shown, tmp_path: Path) -> None:
    wide = "document.documentElement.scrollWidth <= innerWidth"
    backs, lines = set(), set()
    with viewing(shown.session.name) as view:
        browser.open(view.url)
        browser.until(EVERYTHING)
        for scheme in ("light", "dark"):
            browser.prefer(scheme)
            backs.add(browser.until("getComputedStyle(document.body).backgroundColor"))
            meant = "getComputedStyle(document.body).getPropertyValue('--measured').trim()"
            lines.add(browser.until(f"plots[0].series[1].stroke() === {meant} && {meant}"))
            browser.picture(tmp_path / f"{scheme}.png")
            browser.until(wide)
        browser.picture(tmp_path / "narrow.png", width=600)
        browser.until(wide)
        browser.until("document.getElementById('right').offsetTop > 500")
        assert (tmp_path / "narrow.png").read_bytes().startswith(b"\x89PNG")
        assert browser.complaints == []
    assert len(backs) == len(lines) == 2


def test_nothing_comes_from_elsewhere(browser: Browser, shown: Shown) -> None:
    with viewing(shown.session.name) as view:
        browser.open(view.url)
        browser.until(EVERYTHING)
        found = browser.eval("performance.getEntriesByType('resource').map(e => e.name)")
    parts = [name for name in found if not name.startswith("blob:")]
    assert len(parts) == 4
    assert all(name.startswith(view.url) for name in parts)


def test_a_session_that_has_done_nothing_yet_is_shown(browser: Browser) -> None:
    settings = config(camera_names=("head",), dry_run=True)
    with Shown(settings) as shown, viewing(shown.session.name) as view:
        browser.open(view.url)
        browser.until(f"{DOING} === 'waits for the first tick'")
        assert "none in use" in browser.text("chunk_name")
        assert "no frame yet" in browser.text("cameras")
        assert browser.text("dry_run") == "dry run: nothing is sent"
        assert browser.complaints == []


KINDS = {FROZEN: "weighted", OVERLAP: "weighted", EXECUTED: "executed", NOW: "now", NEW: ""}


def test_each_panel_says_what_was_told(browser: Browser, shown: Shown) -> None:
    grant = b'{"name":"%s","asked":"x","granted":"y","ok":%s,"remedy":"do"}'
    grants = b",".join([grant % (b"scheduler", b"false"), grant % (b"core", b"true")])
    with viewing(shown.session.name) as view:
        shown.again(row=8.0)
        shown.tell("control", detail=b"[" + grants + b"]")
        shown.tell("inference", b"ready")
        shown.tell("sim", b"loading")
        shown.publish("frame.head", t_capture=clock.now_ns() - 120_000_000_000)
        with closing(Feed(shown.session)) as feed:
            feed.follow()
            told = json.loads(feed.look())["look"]
        browser.open(view.url)
        browser.until("plots.length === 24 && document.images[1].naturalWidth")
        bars = "[...document.querySelectorAll('#{} i')].map(i => {})"
        kinds = rows(told["chunk"], told["chunk"]["executed"])
        assert browser.eval(bars.format("chunk", "i.className")) == [KINDS[kind] for kind in kinds]
        assert {"executed", "now", "weighted", ""} == {KINDS[kind] for kind in kinds}
        heights = browser.eval(bars.format("jitter", "i.offsetHeight > 0"))
        assert heights == [count > 0 for count in told["jitter"]["counts"]]
        lines = browser.eval(
            "[...document.querySelectorAll('#events li')].map(l => l.lastChild.textContent)"
        )
        assert lines == [event["words"] for event in told["events"]][::-1]
        assert "not granted: scheduler\n" in browser.text("processes") + "\n"
        states = "[...document.querySelectorAll('#processes td:nth-child(2)')]"
        assert browser.eval(f"{states}.map(s => s.className)") == ["good"] * 3 + ["worth"]
        captions = "[...document.querySelectorAll('figcaption')].map(c => c.innerText)"
        assert [" old: " in caption for caption in browser.eval(captions)] == [True, False]
        delay = "[...document.querySelectorAll('#chunk_figures dd')][1]"
        newest = told["inference"]["last"][-1]
        assert f"planned {newest['d_planned']}" in browser.eval(f"{delay}.innerText")
        late = newest["d_counted"] > newest["d_planned"]
        assert browser.eval(f"{delay}.className") == ("worth" if late else "")
        assert browser.complaints == []
