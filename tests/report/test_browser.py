"""The page in headless Chromium, opened from disk: it runs, follows the pointer, finds frames."""

from __future__ import annotations

import re
import shutil
import subprocess

import pytest

from tests.report.made_up import make_report, make_two_tracks, thumbnails_of
from vidinv.report.page import render

# Without the background flags Chromium looks up hosts of its maker at each start.
FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-sync",
    "--disable-background-networking",
    "--disable-component-update",
    "--window-size=1280,2000",
]
ACT = """<script>
window.onerror = function (message) { document.title = 'ERROR ' + message; };
var plot = document.querySelector('[data-plot]'), box = plot.getBoundingClientRect();
var note = [];
function read(label) {
  var panel = document.getElementById('panel');
  note.push(label + ':' + panel.dataset.frame + ':' + panel.querySelectorAll('img').length);
}
function at(kind, share) {
  plot.dispatchEvent(new MouseEvent(kind, {clientX: box.left + box.width * share, bubbles: true}));
}
read('start');
at('pointermove', 0.51); read('move');
at('click', 0.76); read('click');
document.dispatchEvent(new KeyboardEvent('keydown', {key: 'ArrowRight'})); read('key');
document.querySelectorAll('.pair')[3].click(); read('pair');
var wide = document.documentElement.scrollWidth > window.innerWidth ? 'wide' : 'fits';
document.body.dataset.note = note.join(' ') + ' ' + wide;
</script>"""

# Reads frame, track, first figure, whose picture, the tracks to switch to, and the curves set back.
READ_TRACKS = """<script>
window.onerror = function (message) { document.title = 'ERROR ' + message; };
var panel = document.getElementById('panel'), note = [];
var plot = document.querySelector('[data-plot]'), box = plot.getBoundingClientRect();
function all(selector) { return Array.prototype.slice.call(document.querySelectorAll(selector)); }
function tracks(elements) {
  var found = elements.map(function (one) { return one.dataset.track; });
  return found.filter(function (one, n) { return found.indexOf(one) === n; }).sort().join('+');
}
function read() {
  var picture = panel.querySelector('img');
  var whose = all('.pair').filter(function (pair) {
    return picture && pair.querySelector('img').src === picture.src;
  });
  var behind = all('polyline').filter(function (line) {
    return getComputedStyle(line).opacity < 1;
  });
  var open = all('.tracks button').filter(function (one) { return one.offsetParent; });
  note.push([panel.dataset.frame, panel.dataset.track, panel.querySelector('dd').textContent,
    tracks(whose), tracks(open), tracks(behind)].join(':'));
}
function click(frame, share) {
  plot.dispatchEvent(new MouseEvent('click', {bubbles: true,
    clientX: box.left + box.width * (frame + 0.5) / 40, clientY: box.top + box.height * share}));
}
function key(name) { document.dispatchEvent(new KeyboardEvent('keydown', {key: name})); read(); }
</script>"""
SWITCH = """<script>
click(15, 0.2); read();
click(15, 0.7); read();
click(5, 0.2); all('.tracks button')[1].click(); read();
key('ArrowLeft'); key('ArrowRight');
all('.tracks button')[0].click(); read();
document.body.dataset.note = note.join(' ');
</script>"""
LOOK_AT_BOTH = """<script>
click(15, 0.2); read();
click(30, 0.2); read();
document.body.dataset.note = note.join(' ');
</script>"""


@pytest.fixture(scope="module")
def chromium():
    path = shutil.which("chromium") or shutil.which("chromium-browser")
    if path is None:
        pytest.skip("needs Chromium (Debian package chromium)")
    return path


def dump(chromium: str, page, folder, *more: str) -> str:
    command = [chromium, *FLAGS, f"--user-data-dir={folder / 'profile'}", *more, "--dump-dom"]
    ran = subprocess.run(
        [*command, page.as_uri()], capture_output=True, text=True, timeout=120, check=True
    )
    return ran.stdout


def test_charts_panel_and_pictures_work_together(chromium, tmp_path):
    report = make_report()
    page = tmp_path / "report.html"
    html = render(report, thumbnails=thumbnails_of(report))
    page.write_text(html.replace("</body>", ACT + "</body>"))
    worst = [item.frame for item in report.standing_out]
    note = re.search(r'data-note="([^"]*)"', dump(chromium, page, tmp_path))[1]
    first = min(worst)
    assert note.split() == [
        f"start:{first}:2",
        "move:20:2",
        "click:30:2",
        "key:31:2",
        f"pair:{worst[3]}:2",
        "fits",
    ]


@pytest.mark.parametrize("make", [make_report, make_two_tracks])
def test_nothing_sticks_out_on_a_phone(chromium, tmp_path, make):
    report = make()
    page = tmp_path / "report.html"
    html = render(report, thumbnails=thumbnails_of(report))
    page.write_text(html.replace("</body>", ACT + "</body>"))
    dom = dump(chromium, page, tmp_path, "--window-size=500,900")
    assert re.search(r'data-note="[^"]* fits"', dom)
    assert "<title>ERROR" not in dom


def test_pointer_keys_and_buttons_read_the_track_that_is_meant(chromium, tmp_path):
    report = make_two_tracks()
    page = tmp_path / "report.html"
    html = render(report, thumbnails=thumbnails_of(report))
    page.write_text(html.replace("</body>", READ_TRACKS + SWITCH + "</body>"))
    dom = dump(chromium, page, tmp_path)
    assert "<title>ERROR" not in dom
    distance = {(row.frame, row.track): f"{row.distance:.2f}" for row in report.rows}
    assert re.search(r'data-note="([^"]*)"', dom)[1].split() == [
        f"15:1:{distance[15, 1]}:1:0+1:0",
        f"15:0:{distance[15, 0]}:0:0+1:1",
        f"5:1:{distance[5, 1]}:1:0+1:0",
        f"4:0:{distance[4, 0]}:0:0:1",  # track 1 comes in the next frame, and is read there
        f"5:1:{distance[5, 1]}:1:0+1:0",
        f"5:0:{distance[5, 0]}:0:0+1:1",
    ]


def test_faces_of_other_times_are_not_set_back(chromium, tmp_path):
    """Such as those of the shots of a clip."""
    report = make_two_tracks(joins=20, leaves=20)
    page = tmp_path / "report.html"
    html = render(report, thumbnails=thumbnails_of(report))
    page.write_text(html.replace("</body>", READ_TRACKS + LOOK_AT_BOTH + "</body>"))
    note = re.search(r'data-note="([^"]*)"', dump(chromium, page, tmp_path))[1]
    distance = {row.frame: f"{row.distance:.2f}" for row in report.rows}
    assert note.split() == [f"15:0:{distance[15]}:0:0:", f"30:1:{distance[30]}:1:1:"]


@pytest.mark.parametrize(("scheme", "dark"), [("0", True), ("1", False)])
def test_the_page_is_readable_in_light_and_dark(chromium, tmp_path, scheme, dark):
    page = tmp_path / "report.html"
    read = """<script>
    var style = getComputedStyle(document.body);
    document.body.dataset.note = style.backgroundColor + '/' + style.color;
    </script>"""
    page.write_text(render(make_report()).replace("</body>", read + "</body>"))
    found = dump(chromium, page, tmp_path, f"--blink-settings=preferredColorScheme={scheme}")
    ground, ink = re.search(r'data-note="([^"]*)"', found)[1].split("/")
    ground_level, ink_level = (
        sum(map(int, re.findall(r"\d+", text)[:3])) for text in (ground, ink)
    )
    assert (ground_level < 120) == dark
    assert abs(ground_level - ink_level) > 500
