"""What a person does on the pages, click by click."""

import re
import tomllib

import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from tests.pages.conftest import House, Watched
from tests.support import until


def changed(house: House) -> dict[str, object]:
    """Have a price change, and return the change once it is stored."""
    before = max((row["id"] for row in house.get("/changes.json")["rows"]), default=0)
    price = float(house.shop.prices[0]) + 1
    house.shop.prices[0] = f"{price:.2f}"
    newest: dict[str, object] = house.until_listed(
        "/changes.json?of=item", lambda rows: next((r for r in rows if r["id"] > before), None), "a change"
    )
    return newest


def press(page: Page, name: str) -> None:
    page.get_by_role("button", name=name, exact=True).click()


def test_the_overview_moves_by_itself(page: Page, house: House) -> None:
    page.goto("/")
    page.evaluate("window.same = true")
    expect(page.locator("#pulse")).to_have_text("live")
    change = changed(house)
    row = page.locator(f'#changes a[href="/changes/{change["id"]}"]')
    expect(row).to_be_visible()
    assert page.evaluate("window.same"), "the page was loaded again"


def test_the_scraper_is_stopped_started_paused_and_restarted(page: Page, house: House, watched: Watched) -> None:
    page.goto("/")
    state = page.locator("h1 .state")
    press(page, "Pause")
    expect(state).to_have_text("Paused")
    press(page, "Resume")
    expect(state).to_have_text(re.compile("Scraping|Waiting"))
    press(page, "Stop")
    assert "stays stopped" in watched.dialogs[-1]
    expect(state).to_have_text("Stopped")
    press(page, "Start")
    expect(state).to_have_text(re.compile("Scraping|Waiting"))
    pid = house.service.status()["pid"]
    press(page, "Restart")
    until(lambda: house.service.status()["pid"] not in (pid, None), "another process")
    expect(page.get_by_text(str(house.service.status()["pid"]), exact=True)).to_be_visible()


def test_hold_stops_the_refreshing_and_go_on_goes_on(page: Page, house: House) -> None:
    page.goto("/")
    expect(page.locator("#pulse")).to_have_text("live")
    press(page, "Hold")
    expect(page.locator("#pulse")).to_have_text("held")
    with page.context.new_page() as other:
        other.goto("/changes")
        first = page.locator("#changes li").first.inner_text()
        change = changed(house)
        other.reload()
        expect(other.locator(f'a.what[href="/changes/{change["id"]}"]')).to_be_visible()
    assert page.locator("#changes li").first.inner_text() == first
    press(page, "Go on")
    expect(page.locator(f'#changes a[href="/changes/{change["id"]}"]')).to_be_visible()


def test_a_hidden_tab_closes_its_stream(page: Page, house: House) -> None:
    def streams() -> int:
        return len(page.evaluate("window.streams.filter(one => one.readyState !== 2)"))

    page.add_init_script(
        "window.streams = []; const Real = EventSource;"
        "window.EventSource = class extends Real { constructor(...a) { super(...a); window.streams.push(this) } };"
        "window.away = false; Object.defineProperty(document, 'hidden', {get: () => window.away});"
    )
    page.goto("/")
    expect(page.locator("#pulse")).to_have_text("live")
    assert streams() == 1
    page.evaluate("window.away = true; document.dispatchEvent(new Event('visibilitychange'))")
    assert streams() == 0
    page.evaluate("window.away = false; document.dispatchEvent(new Event('visibilitychange'))")
    assert streams() == 1


def test_a_source_is_added_from_an_address_by_a_proposal(page: Page, house: House) -> None:
    page.goto("/sources")
    page.get_by_label("address of a page").fill(house.shop.site.url + "/")
    press(page, "Add a source")
    expect(page.get_by_label("Address", exact=True)).to_have_value(house.shop.site.url + "/")
    page.get_by_label("Name", exact=True).fill("pasted")
    page.get_by_label("Every", exact=True).fill("1s")
    press(page, "Look")
    card = page.locator("form.card", has_text="12 items").first
    expect(card).to_contain_text("Amber cap")
    card.get_by_role("button", name="Take this").click()
    expect(page.locator(".told")).to_contain_text("12 items")
    expect(page.get_by_label("Name", exact=True)).to_have_value("pasted")
    press(page, "Add this source")
    expect(page.locator("h1")).to_contain_text("pasted")
    house.until_listed("/items.json?source=pasted", lambda rows: len(rows) == 12, "its items")
    page.goto("/sources/pasted?tab=items")
    expect(page.locator("a.what")).to_have_count(12)


def test_a_text_of_the_page_is_picked_as_a_field(page: Page, house: House) -> None:
    page.goto(f"/sources/new?url={house.shop.site.url}/3")
    press(page, "Look")
    row = page.locator("tr", has=page.get_by_text("£", exact=False)).filter(has=page.get_by_role("button", name="Pick"))
    row.first.get_by_role("button", name="Pick").click()
    place = page.get_by_label("where it stands").first
    expect(place).to_have_value("p.price::text")
    expect(page.get_by_label("name of a field").first).to_be_focused()
    page.keyboard.type("cost")
    press(page, "One more field")
    expect(page.get_by_label("where it stands")).to_have_count(2)
    press(page, "Look")
    expect(page.locator(".told")).to_contain_text("1 item,")
    expect(page.get_by_role("cell", name="£4.50").first).to_be_visible()


def test_a_broken_selector_is_told_in_words_and_the_form_keeps_its_values(page: Page, house: House) -> None:
    page.goto(f"/sources/new?url={house.shop.site.url}/3")
    page.get_by_label("name of a field").fill("price")
    page.get_by_label("where it stands").fill("p..price[")
    page.get_by_label("Name", exact=True).fill("broken")
    press(page, "Look")
    expect(page.get_by_role("alert")).to_contain_text("p..price[")
    assert "Traceback" not in page.content()
    expect(page.get_by_label("where it stands").first).to_have_value("p..price[")
    expect(page.get_by_label("name of a field").first).to_have_value("price")
    expect(page.get_by_label("Name", exact=True)).to_have_value("broken")


def test_the_settings_of_a_source_are_edited_and_a_fault_is_refused_in_words(page: Page, house: House) -> None:
    house.service.http.post("/api/sources", json={"name": "edited", "start": [house.shop.site.url + "/news"]})
    page.goto("/sources/edited?tab=settings")
    text = page.locator("#definition")
    right = text.input_value()
    text.fill(right + '\nevrey = "1h"\n')
    press(page, "Save")
    expect(page.locator(".alarm")).to_contain_text("every")
    expect(text).to_have_value(re.compile("evrey"))
    text.fill("this is = = no TOML")
    press(page, "Save")
    expect(page.locator(".alarm")).to_be_visible()
    text.fill(right + '\nevery = "7h"\n')
    press(page, "Save")
    expect(page.locator("#head")).to_contain_text("every 7 h")
    assert tomllib.loads(text.input_value())["every"] == 25200.0


def test_sources_are_acted_on_by_ticks_and_all_that_match(page: Page, house: House, watched: Watched) -> None:
    for name in ("bulk-1", "bulk-2", "bulk-3"):
        source = {"name": name, "start": [house.shop.site.url + "/news"], "tags": ["bulk"]}
        assert house.service.http.post("/api/sources", json=source).status_code == 201

    def healths() -> dict[str, str]:
        return {s["name"]: s["health"] for s in house.get("/sources.json?tag=bulk")["sources"]}

    def all_that_match() -> Locator:
        return page.get_by_label("all that match")

    page.goto("/sources?tag=bulk")
    page.get_by_label("tick bulk-2").check()
    press(page, "Pause")
    expect(page).to_have_url(re.compile(r"\?tag=bulk$"))
    assert [name for name, health in healths().items() if health == "paused"] == ["bulk-2"]
    all_that_match().check()
    press(page, "Pause")
    expect(page.locator("tbody .badge.paused")).to_have_count(3)
    page.goto("/sources?tag=bulk&state=paused")
    page.get_by_label("tick all").check()
    press(page, "Resume")
    until(lambda: "paused" not in healths().values(), "none is paused")
    page.goto("/sources?tag=bulk")
    all_that_match().check()
    press(page, "Run now")
    until(lambda: all(s["last_run"] for s in house.get("/sources.json?tag=bulk")["sources"]), "all ran")
    page.goto("/sources?tag=bulk")
    all_that_match().check()
    press(page, "Remove")
    assert "What was scraped stays" in watched.dialogs[-1]
    until(lambda: healths() == {}, "they are removed")
    expect(page.locator(".empty")).to_contain_text("No source is like that")
    assert {"shop", "news", "missing"} <= {s["name"] for s in house.get("/sources.json")["sources"]}


def test_to_act_on_nothing_is_refused_on_a_page(page: Page, house: House) -> None:
    page.goto("/sources")
    press(page, "Pause")
    expect(page.get_by_role("alert")).to_contain_text("tick the sources")
    expect(page.get_by_role("navigation")).to_be_visible()


def test_filters_are_in_the_address_and_survive_back_and_reload(page: Page, house: House) -> None:
    page.goto("/sources")
    page.get_by_role("searchbox").fill("new")
    page.get_by_label("Order").select_option("name")
    press(page, "Show")
    expect(page).to_have_url(re.compile(r"q=new"))
    expect(page.locator("tbody tr")).to_have_count(1)
    page.reload()
    expect(page.locator("tbody tr")).to_have_count(1)
    expect(page.get_by_role("searchbox")).to_have_value("new")
    page.locator("tbody a.what").click()
    expect(page.locator("h1")).to_contain_text("news")
    page.go_back()
    expect(page.get_by_role("searchbox")).to_have_value("new")
    expect(page.get_by_label("Order")).to_have_value("name")
    page.go_back()
    expect(page.locator("tbody tr").nth(2)).to_be_visible()


def test_changes_are_read_one_by_one_and_all_at_once(page: Page, house: House) -> None:
    change = changed(house)
    page.goto("/changes")
    row = page.locator("li[data-row]", has=page.locator(f'a[href="/changes/{change["id"]}"]'))
    name = row.locator("a.what")
    assert int(name.evaluate("e => getComputedStyle(e).fontWeight")) >= 600
    assert "new" in (row.get_attribute("class") or "")
    name.click()
    expect(page.locator("del")).to_be_visible()
    until(lambda: house.get(f"/changes/{change['id']}.json")["change"]["read"], "it is read")
    page.goto("/changes")
    assert "new" not in (row.get_attribute("class") or "")
    later = changed(house)
    page.goto("/changes?of=item")
    press(page, "Mark all as read")
    expect(page).to_have_url(re.compile(r"/changes\?of=item$"))
    assert house.get(f"/changes/{later['id']}.json")["change"]["read"]


def test_a_change_leads_to_the_earlier_and_the_later_and_compares_any_two_versions(page: Page, house: House) -> None:
    first, second = changed(house), changed(house)
    page.goto(f"/changes/{second['id']}")
    press_link(page, "Earlier")
    expect(page).to_have_url(re.compile(r"/changes/\d+$"))
    assert int(page.url.rsplit("/", 1)[1]) < int(str(second["id"]))
    page.goto(f"/changes/{first['id']}")
    press_link(page, "Later")
    assert int(page.url.rsplit("/", 1)[1]) > int(str(first["id"]))
    page.goto(f"/changes/{second['id']}")
    versions = page.locator("select[name=old]").locator("option")
    assert versions.count() >= 3
    oldest = versions.last.get_attribute("value")
    page.locator("select[name=old]").select_option(oldest)
    page.locator("select[name=new]").select_option("now")
    press(page, "Compare")
    expect(page).to_have_url(re.compile(f"old={oldest}.*new=now"))
    expect(page.locator("td.diff")).to_contain_text(house.shop.prices[0])


def press_link(page: Page, name: str) -> None:
    page.get_by_role("link", name=name, exact=True).click()


def test_a_change_of_a_page_is_seen_whole_side_by_side_and_its_text_ignored(page: Page, house: House) -> None:
    body = {"name": "daily", "start": [house.shop.site.url + "/news"], "every": "1s"}
    assert house.service.http.post("/api/sources", json=body).status_code == 201
    house.until_listed("/pages.json?source=daily")
    house.shop.news[6] = "Visitors so far: 12345"
    rows = house.until_listed("/changes.json?source=daily&of=page", lambda rows: rows)
    page.goto(f"/changes/{rows[0]['id']}")
    expect(page.locator(".gap").first).to_contain_text("more")
    page.get_by_label("the whole page").check()
    press(page, "Compare")
    expect(page.locator(".gap")).to_have_count(0)
    expect(page.get_by_text("Paragraph 11 stays")).to_be_visible()
    page.get_by_label("side by side").check()
    press(page, "Compare")
    expect(page.locator(".sides .came")).to_contain_text("12345")
    expect(page.get_by_label("the whole page")).to_be_checked()
    page.get_by_label("Text that does not count").fill("Visitors so far: 12345")
    press(page, "Ignore this")
    page.goto("/sources/daily?tab=settings")
    noise = tomllib.loads(page.locator("#definition").input_value())["noise"]
    assert re.fullmatch(noise["patterns"][0], "Visitors so far: 12345")


def test_items_are_searched_filtered_and_their_columns_chosen(page: Page, house: House) -> None:
    page.goto("/items?source=shop")
    expect(page.locator("tbody tr")).to_have_count(12)
    expect(page.get_by_role("columnheader", name="price")).to_be_visible()
    page.get_by_role("searchbox").fill("marble")
    press(page, "Show")
    expect(page).to_have_url(re.compile("q=marble"))
    expect(page.locator("tbody tr")).to_have_count(3)
    page.goto("/items?source=shop")
    page.get_by_text("columns", exact=True).click()
    press_link(page, "price")
    expect(page).to_have_url(re.compile("columns="))
    expect(page.get_by_role("columnheader", name="price")).to_have_count(0)
    page.goto("/items")
    if page.locator(".chips a", has_text="shop").count():
        page.locator(".chips a", has_text="shop").first.click()
        expect(page).to_have_url(re.compile("source=shop"))


@pytest.mark.parametrize("form", ["JSONL", "CSV"])
def test_items_are_downloaded(page: Page, house: House, form: str) -> None:
    page.goto("/items?source=shop")
    with page.expect_download() as download:
        press_link(page, form)
    text = download.value.path().read_text()
    assert "Amber cap" in text
    assert download.value.suggested_filename.endswith(form.lower())


def test_failures_are_tried_again_by_ticks_and_all_that_match(page: Page, house: House) -> None:
    rows = house.until_listed("/queue.json?source=missing", lambda rows: rows if len(rows) == 2 else None)
    page.goto("/queue?source=missing")
    asked = [path for path in house.shop.site.paths() if path in ("/none", "/nor-this")]
    page.locator("tbody input[name=id]").first.check()
    press(page, "Try again")
    expect(page).to_have_url(re.compile("source=missing"))
    until(lambda: len([p for p in house.shop.site.paths() if p in ("/none", "/nor-this")]) > len(asked), "asked again")
    page.goto("/queue?source=missing")
    page.get_by_label("all that match").check()
    press(page, "Try again")
    expect(page.locator("h1")).to_contain_text("Failures")
    assert {row["reason"] for row in rows} == {"http_4xx"}


def test_an_alarm_is_taken_as_right(page: Page, house: House, watched: Watched) -> None:
    def alarms() -> list[dict[str, object]]:
        return [alarm for alarm in house.get("/overview.json")["alarms"] if alarm["source"] == "shop"]

    house.shop.there = 2
    until(alarms, "an alarm")
    page.goto("/")
    row = page.locator("#attention li", has=page.get_by_role("link", name="shop", exact=True)).first
    row.get_by_role("button", name="It is right so").click()
    assert "marked as removed" in watched.dialogs[-1]
    until(lambda: not alarms(), "it is taken")
    house.until_listed("/items.json?source=shop&removed=true", lambda rows: len(rows) >= 10, "they are removed")
    house.shop.there = 12
    page.goto("/items?source=shop&removed=true")
    expect(page.locator(".badge.removed").first).to_be_visible()


def test_a_test_notification_is_sent(page: Page, house: House) -> None:
    house.shop.site.raw("/hook", b"HTTP/1.1 204 No Content\r\n\r\n")
    page.goto("/notifications")
    press(page, "Send a test")
    expect(page.locator("#deliveries .badge.sent").first).to_be_visible()
    assert "/hook" in house.shop.site.paths()


def test_tokens_are_made_shown_once_and_revoked(page: Page, house: House) -> None:
    page.goto("/tokens")
    page.get_by_label("What it is for").fill("a script at night")
    page.get_by_label("May").select_option("read")
    page.get_by_label("Good for days").fill("9")
    press(page, "Make a token")
    made = page.locator(".told code").inner_text()
    assert len(made) > 20
    page.goto("/tokens")
    assert made not in page.content()
    expect(page.locator("tbody tr")).to_contain_text("a script at night")
    press(page, "Revoke")
    until(lambda: all(token["expires_at"] is None for token in house.get("/tokens.json")["tokens"]), "it is revoked")


def test_lists_are_gone_through_by_keys(page: Page, house: House) -> None:
    changed(house)
    changed(house)
    page.goto("/changes")
    rows = page.locator("[data-row]")
    for key, at in (("j", 0), ("j", 1), ("k", 0)):
        page.keyboard.press(key)
        expect(rows.nth(at)).to_have_class(re.compile("cursor"))
    first = rows.nth(0).locator("a.what").get_attribute("href")
    page.keyboard.press("m")
    until(lambda: house.get(f"{first}.json")["change"]["read"], "it is read")
    expect(rows.first).to_be_visible()
    box = page.get_by_role("searchbox").first

    def sought() -> bool:
        page.keyboard.press("/")  # what was just read may be drawn anew at this very moment
        return bool(box.evaluate("box => box === document.activeElement"))

    until(sought, "the search has the focus")
    page.keyboard.type("jo")
    expect(page.get_by_role("searchbox").first).to_have_value("jo")
    page.goto("/changes")
    page.keyboard.press("j")
    wanted = rows.nth(0).locator("a.what").get_attribute("href")
    page.keyboard.press("o")
    expect(page).to_have_url(re.compile(f"{wanted}$"))


def test_without_javascript_forms_work_by_themselves(chromium: Browser, house: House, watched: Watched) -> None:
    context = watched.context(chromium.new_context(base_url=house.url, java_script_enabled=False))
    page = context.new_page()
    page.goto("/")
    press(page, "Pause")
    until(lambda: house.service.status()["state"] == "paused", "it is paused")
    page.goto("/")
    press(page, "Resume")
    house.service.until_state("scraping", "idle")
    page.goto(f"/sources/new?url={house.shop.site.url}/3")
    press(page, "Look")
    expect(page.locator(".told")).to_contain_text("200")
    page.goto("/changes")
    press(page, "Mark all as read")
    expect(page.locator("#unread")).to_contain_text("0 unread")
    context.close()
